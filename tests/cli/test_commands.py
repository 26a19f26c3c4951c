import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bwpipe.cli.main import app
from bwpipe.cli.signals import InterruptedRun
from bwpipe.version import __version__

ROOT = Path(__file__).parents[2]
SMALL = ("--model", "autoencoder", "--set", "colorize.precision=float32")
"""A small network, on any device."""


def bwpipe(*arguments: str, code: int = 0) -> str:
    """Run the command line; return standard output, or standard error if a failure is expected."""
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def test_the_list_of_commands_has_whole_sentences() -> None:
    lines = bwpipe("--help").partition("Commands:")[2].strip().splitlines()

    assert len(lines) == 19
    assert [line.split()[0] for line in lines[:5]] == ["colorize", "preview", "report", "review", "verify"]
    assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == []


def test_help_names_every_command_and_imports_no_large_library() -> None:
    imported = "[name for name in ('torch', 'cv2', 'av', 'numpy', 'pydantic', 'yaml') if name in sys.modules]"
    program = f"import sys\nfrom bwpipe.cli.main import main\ntry: main()\nfinally: print({imported})"
    command = [sys.executable, "-c", program, "--help"]

    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert printed.endswith("[]\n")
    for name in ("run", "train", "check", "stages", "models", "schema", "samples", "init", "colorize", "doctor"):
        assert f"  {name} " in printed


def test_python_m_bwpipe_runs_the_command_line() -> None:
    command = [sys.executable, "-m", "bwpipe", "--version"]

    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert printed.stdout == f"bwpipe {__version__}\n"


def test_stages_and_models_are_listed_and_described() -> None:
    assert {"read", "grayscale", "colorize", "write"} <= {line.split()[0] for line in bwpipe("stages").splitlines()}
    assert "autoencoder" in bwpipe("models")
    described = bwpipe("stages", "read")
    assert described.startswith("read: nothing -> Frame\n")
    assert "frames: an integer of at least 1 or nothing (default nothing)" in described
    assert bwpipe("models", "autoencoder").startswith("autoencoder: produces rgb\n")


def test_an_unknown_stage_is_rejected_with_the_closest_name() -> None:
    assert bwpipe("stages", "grayscal", code=2) == "error: unknown stage 'grayscal'; did you mean 'grayscale'?\n"


def test_a_missing_graph_file_is_rejected() -> None:
    for command in ("run", "train", "check"):
        assert "gone.yaml" in bwpipe(command, "gone.yaml", code=2)


def test_the_schema_is_valid_json_schema_and_accepts_our_graph_files() -> None:
    import jsonschema

    from bwpipe.graph.document import Document

    schema = json.loads(bwpipe("schema"))

    jsonschema.Draft202012Validator.check_schema(schema)
    for path in (*ROOT.glob("[!.]*.yaml"), *(ROOT / "recipes").glob("*.yaml")):
        jsonschema.validate(Document.read(path).data, schema)  # PyYAML reads the key `on` as a boolean


def test_init_writes_the_graph_files_once(tmp_path: Path) -> None:
    bwpipe("init", str(tmp_path / "new"))

    assert (tmp_path / "new" / "pipeline.yaml").read_bytes() == (ROOT / "pipeline.yaml").read_bytes()
    assert "this file already exists" in bwpipe("init", str(tmp_path / "new"), code=2)
    bwpipe("init", "--finetune", str(tmp_path / "new"))
    bwpipe("init", "--adapt", str(tmp_path / "new"))
    bwpipe("init", "--recipes", str(tmp_path / "new"))
    recipes = {path.name for path in (ROOT / "recipes").glob("*.yaml")}
    written = {path.name for path in (tmp_path / "new").iterdir()}
    assert written == {"pipeline.yaml", "train.yaml", "fine-tune.yaml", "adapt.yaml", "bwpipe.schema.json", *recipes}
    assert "give one of them at a time" in bwpipe("init", "--recipes", "--finetune", str(tmp_path), code=2)


def test_the_schema_that_graphs_name_for_editors_is_written_beside_them_and_held_current(tmp_path: Path) -> None:
    bwpipe("init", str(tmp_path))
    bwpipe("schema", "-o", str(tmp_path / "again.json"))

    written = (tmp_path / "bwpipe.schema.json").read_text(encoding="utf-8")
    assert written == (tmp_path / "again.json").read_text(encoding="utf-8")
    for name in ("pipeline.yaml", "train.yaml", "fine-tune.yaml", "adapt.yaml"):
        second = (ROOT / name).read_text(encoding="utf-8").splitlines()[1]
        assert second == "# yaml-language-server: $schema=bwpipe.schema.json"


def test_doctor_lists_versions_devices_and_codecs() -> None:
    output = bwpipe("doctor")

    assert {line.split()[0] for line in output.splitlines()} >= {"python", "torch", "av", "devices", "FFmpeg", "encoders"}
    assert "libx264" in output


def test_check_shows_what_a_run_would_do_and_writes_nothing(samples: Path, tmp_path: Path) -> None:
    overrides = ("--set", f"read.path={samples}", "--set", f"write.path={tmp_path / 'out'}")

    output = bwpipe("check", str(ROOT / "pipeline.yaml"), *overrides)

    assert "colorize: Frame -> Frame, after shots" in output
    assert output.endswith("would read: 5 pictures, 1 film\n")
    assert not (tmp_path / "out").exists()


def test_colorize_needs_no_graph_file(samples: Path, tmp_path: Path) -> None:
    output = bwpipe(
        "colorize", str(samples / "chelsea.png"), "-o", str(tmp_path / "out"), "--set", "colorize.precision=float32"
    )

    out = tmp_path / "out"
    assert re.fullmatch(rf"1 picture done in [\d.]+ s; the outputs are in {out}; `bwpipe report {out}` shows them\n", output)
    assert (tmp_path / "out" / "chelsea.png").stat().st_size > 0


def test_command_line_options_are_validated_like_those_of_the_file(samples: Path, tmp_path: Path) -> None:
    output = bwpipe("colorize", str(samples), "-o", str(tmp_path / "out"), "--set", "colorize.bach=4", code=2)

    assert output == "error: --set colorize.bach=4: unknown option 'bach' of 'colorize'; did you mean 'batch'?\n"
    assert not (tmp_path / "out").exists()


def test_info_says_how_a_file_was_made(samples: Path, tmp_path: Path) -> None:
    bwpipe("colorize", str(samples / "rocket.jpg"), "-o", str(tmp_path), *SMALL, "--vividness", "0.25", "--quiet")

    text, facts = (bwpipe("info", str(tmp_path / "rocket.jpg"), *json_option) for json_option in ((), ("--json",)))
    original = bwpipe("info", str(samples / "rocket.jpg"))

    assert f"colour added by bwpipe {__version__}, network autoencoder\n" in text
    assert "  vividness: 0.25\n" in text
    stages = {stage["stage"]: stage for stage in json.loads(facts)["provenance"]["stages"]}
    assert stages["colorize"]["vividness"] == 0.25
    assert original.endswith("nothing in it says that bwpipe wrote it\n")
    assert "is a folder; give a picture or a film" in bwpipe("info", str(tmp_path), code=2)
    assert "there is no file or folder gone" in bwpipe("info", "gone", code=2)


def test_doctor_has_its_facts_as_json() -> None:
    assert "libx264" in json.loads(bwpipe("doctor", "--json"))["encoders"]


def test_several_inputs_are_coloured_into_one_folder_and_each_file_once(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    shutil.copy(samples / "chelsea.png", tmp_path / "more")
    (tmp_path / "notes.txt").write_text("bought in Lyon")
    inputs = [samples / "rocket.jpg", tmp_path / "more", tmp_path / "notes.txt", samples / "rocket.jpg"]

    result = json.loads(bwpipe("colorise", *map(str, inputs), "-o", str(tmp_path / "out"), *SMALL, "--json"))

    assert sorted(Path(path).name for path in result["outputs"]) == ["chelsea.png", "rocket.jpg"]
    assert (result["kinds"], result["failed"], result["left_out"]) == ({"picture": 2}, {}, {"of another kind (.txt)": 1})


def test_the_named_options_are_those_of_the_graph(samples: Path, tmp_path: Path) -> None:
    named = ("--model", "autoencoder", "--vividness", "0.25", "--quality", "best", "--verify", "--recolour")
    arguments = ("colorize", str(samples / "rocket.jpg"), "-o", str(tmp_path / "out"), *named, "--dry-run", "--json")

    options = {stage["id"]: stage["options"] for stage in json.loads(bwpipe(*arguments))["stages"]}

    colorize = options["colorize"]
    assert (colorize["model"], colorize["vividness"], colorize["quality"]) == ("autoencoder", 0.25, "best")
    assert (options["write"]["verify"], options["grayscale"]["colour"]) == (True, "recolour")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone",), "IN: there is no file or folder gone; check the name"),
        (("SAMPLES", "gone"), "IN: there is no file or folder gone; check the name"),
        (("EMPTY",), "IN: there is nothing to read; give another path"),
        (
            ("SAMPLES", "--model", "gone"),
            "--model: unknown network 'gone'; known: autoencoder, ",
        ),
        (("SAMPLES", "--plugins", "gone"), "--plugins: "),
        (
            ("SAMPLES", "--set", "vividness=1"),
            "--set vividness=1: 'vividness' is an option of a stage; did you mean 'colorize.vividness'?",
        ),
        (
            ("SAMPLES", "--set", "write.vividness=1"),
            "--set write.vividness=1: 'vividness' is no option of 'write'; did you mean 'colorize.vividness'?",
        ),
        (
            ("FILM", "--set", "write.codec=h256"),
            "--set write.codec=h256: there is no video encoder 'h256'; did you mean 'h264'?",
        ),
        (("SAMPLES", "--set", "colorize.device=cuda:77"), "--set colorize.device=cuda:77: there is no device 'cuda:77'"),
        (("SAMPLES", "--set", "shots.id=colorize"), "stage colorize: a second stage is called 'colorize'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_errors_of_colorize_name_what_was_typed_and_no_line_of_the_default_graph(
    samples: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    film = next(samples.glob("*.mp4"))
    places = {"SAMPLES": str(samples / "rocket.jpg"), "FILM": str(film), "EMPTY": str(tmp_path / "empty")}

    output = bwpipe("colorize", *(places.get(each, each) for each in arguments), "-o", str(tmp_path / "out"), code=2)

    assert output.startswith(f"error: {message}")
    assert "pipeline.yaml" not in output
    assert "read.path" not in output
    assert not (tmp_path / "out").exists()


def test_colorize_shows_the_timing_table_only_if_asked_and_run_always(samples: Path, tmp_path: Path) -> None:
    colorize = ("colorize", str(samples / "rocket.jpg"), "-o", str(tmp_path / "out"), *SMALL, "--restart")
    graph = tmp_path / "graph.yaml"
    graph.write_text(f"stages:\n- use: read\n  path: {samples / 'rocket.jpg'}\n- use: write\n  path: {tmp_path / 'other'}\n")

    assert "busy s" not in bwpipe(*colorize)
    assert "busy s" in bwpipe(*colorize, "--timings")
    assert "busy s" in bwpipe("run", str(graph))


def test_the_closing_lines_say_which_files_failed_and_which_were_skipped(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(samples / "rocket.jpg", tmp_path / "in")
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    (tmp_path / "in" / "notes.txt").write_text("bought in Lyon")

    result = CliRunner().invoke(app, ("colorize", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *SMALL))

    assert result.exit_code == 1
    left_out, failed, counts = result.stdout.splitlines()
    assert left_out == "left out: 1 of another kind (.txt)"
    assert failed.startswith(f"failed: {tmp_path / 'in' / 'bad.png'}: it is not a picture or film")
    assert counts.startswith("1 picture done, 1 failed in ")


def test_estimates_and_the_json_of_check_are_not_mixed(tmp_path: Path) -> None:
    bwpipe("init", str(tmp_path))

    assert "omit --probe or --json" in bwpipe("check", str(tmp_path / "pipeline.yaml"), "--probe", "--json", code=2)


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_quiet_shows_nothing_on_success(samples: Path, tmp_path: Path, quiet: list[str]) -> None:
    output = bwpipe("colorize", str(samples / "rocket.jpg"), "-o", str(tmp_path / "out"), *SMALL, *quiet)

    assert bool(output) is not bool(quiet)


@pytest.mark.parametrize(
    ("options", "message"),
    [((), "the same command resumes from here"), (("--restart",), "would start over; without --restart it resumes from here")],
)
def test_an_interrupted_run_says_how_to_resume(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    (tmp_path / "interrupt.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")  # raised during import
    (tmp_path / "train.yaml").write_text("plugins: [.]\nstages:\n  - use: read\n    path: photos\n")

    with pytest.raises(InterruptedRun, match=message):
        bwpipe("train", str(tmp_path / "train.yaml"), *options)
