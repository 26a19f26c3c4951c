import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bwpipe.cli.main import app
from bwpipe.cli.signals import InterruptedRun
from bwpipe.version import __version__

ROOT = Path(__file__).parents[2]


def bwpipe(*arguments: str, code: int = 0) -> str:
    """Run the command line; return standard output, or standard error if a failure is expected."""
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stderr if code else result.stdout


def test_help_names_every_command_and_imports_neither_torch_nor_opencv() -> None:
    imported = "[name for name in ('torch', 'cv2', 'av') if name in sys.modules]"
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
    for path in (ROOT / "pipeline.yaml", ROOT / "train.yaml", *(ROOT / "recipes").iterdir()):
        jsonschema.validate(Document.read(path).data, schema)  # PyYAML reads the key `on` as a boolean


def test_init_writes_the_graph_files_once(tmp_path: Path) -> None:
    bwpipe("init", str(tmp_path / "new"))

    assert (tmp_path / "new" / "pipeline.yaml").read_bytes() == (ROOT / "pipeline.yaml").read_bytes()
    assert "this file already exists" in bwpipe("init", str(tmp_path / "new"), code=2)


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

    assert output.splitlines()[-1].startswith("1 done in ")
    assert (tmp_path / "out" / "chelsea.png").stat().st_size > 0


def test_command_line_options_are_validated_like_those_of_the_file(samples: Path, tmp_path: Path) -> None:
    output = bwpipe("colorize", str(samples), "-o", str(tmp_path / "out"), "--set", "colorize.bach=4", code=2)

    assert output == "error: --set colorize.bach=4: unknown option 'bach' of 'colorize'; did you mean 'batch'?\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_quiet_shows_nothing_on_success(samples: Path, tmp_path: Path, quiet: list[str]) -> None:
    output = bwpipe("colorize", str(samples / "rocket.jpg"), "-o", str(tmp_path / "out"), *quiet)

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
