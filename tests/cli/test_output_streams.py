"""Whatever standard output and standard error are, and whatever files are called, commands end with the code of their work."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

import bwpipe
from tests.support.made_films import MKV, make_film
from tests.support.made_pictures import make_picture

NAMES = ("写真 ★.pgm", "esc\x1b[31m.pgm", os.fsdecode(b"bad\xff.pgm"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures and a film with names that cp1252 lacks, a broken picture, and a graph."""
    folder = tmp_path_factory.mktemp("names")
    scans = folder / "in"
    scans.mkdir()
    picture = make_picture(scans, "pgm").path
    for name in NAMES:
        (scans / name).write_bytes(picture.read_bytes())
    picture.unlink()
    (scans / "壊れた.jpg").write_bytes(b"x")
    make_film(scans / "映画.mkv", MKV)
    stages = [{"use": "read", "path": str(scans)}, {"use": "write", "path": str(folder / "out"), "codec": "ffv1"}]
    (folder / "graph.yaml").write_text(yaml.safe_dump({"stages": stages}))
    return folder


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "bwpipe", *map(str, arguments)]


_SEPARATOR = "=" * 20
_SEVERAL = f"""
import json, sys
from bwpipe.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        for stream in (sys.stdout, sys.stderr):
            print({_SEPARATOR!r}, end.code or 0, file=stream)
"""


def in_cp1252(**commands: Sequence[str | Path]) -> dict[str, tuple[int, str]]:
    """Exit code and all output of each command, where the output is a pipe of this encoding."""
    given = json.dumps([list(map(str, arguments)) for arguments in commands.values()])
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    result = subprocess.run([sys.executable, "-c", _SEVERAL, given], capture_output=True, check=True, env=environment)
    streams = (
        re.split(rf"^{_SEPARATOR} (\d+)\r?\n", stream.decode("cp1252"), flags=re.MULTILINE)[:-1]
        for stream in (result.stdout, result.stderr)
    )
    out, err = streams
    return {
        name: (int(code), printed + said)
        for name, code, printed, said in zip(commands, out[1::2], out[::2], err[::2], strict=True)
    }


def test_names_that_the_output_can_not_encode_are_escaped_in_every_command(folder: Path) -> None:
    graph = folder / "graph.yaml"
    results = in_cp1252(
        check=("check", graph),
        run=("run", graph),
        verify=("verify", folder / "in", folder / "out"),
        film=("run", graph, "--set", f"read.path={folder / 'in' / '映画.mkv'}", "--set", f"write.path={folder / 'one'}"),
        missing=("run", folder / "映画.yaml"),
    )

    assert {name: code for name, (code, _) in results.items()} == {"check": 0, "run": 1, "verify": 2, "film": 0, "missing": 2}
    for _, output in results.values():
        assert "Traceback" not in output
        assert "bug in bwpipe" not in output
        assert "\x1b" not in output
    for name in ("check", "run", "verify"):
        assert r"\u58ca\u308c\u305f.jpg" in results[name][1]
    assert r"\u5199\u771f \u2605.ppm" in results["verify"][1]
    assert r"esc\x1b[31m.ppm" in results["verify"][1]
    assert r"bad\udcff.ppm" in results["verify"][1]


@pytest.mark.parametrize(("arguments", "code"), [(("stages", "read"), 0), (("check",), 0), (("verify",), 2)])
def test_a_reader_that_is_gone_changes_no_exit_code(arguments: tuple[str, ...], code: int, folder: Path) -> None:
    bwpipe.run(yaml.safe_load((folder / "graph.yaml").read_text()), quiet=True)
    files = {"check": [folder / "graph.yaml"], "verify": [folder / "in", folder / "out"]}.get(arguments[0], [])
    receiver, sender = os.pipe()
    os.close(receiver)
    try:
        result = subprocess.run(
            command(*arguments, *files), stdout=sender, stderr=subprocess.PIPE, timeout=120, check=False, text=True
        )
    finally:
        os.close(sender)

    assert result.returncode == code
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr


class Log:
    """A stream as programs put it in the place of standard error: it can be written to, and nothing else."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)


class Closed(Log):
    def write(self, text: str) -> int:
        raise ValueError("I/O operation on closed file")


@pytest.fixture
def streams() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    yield
    sys.stdout, sys.stderr = before


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("stream", [Log(), Closed(), None], ids=["without isatty", "closed", "none"])
def test_a_run_works_with_any_object_as_standard_error(
    stream: object, quiet: bool, folder: Path, streams: None, tmp_path: Path
) -> None:
    sys.stdout = sys.stderr = stream
    stages = [{"use": "read", "path": str(folder / "in")}, {"use": "write", "path": str(tmp_path / "out"), "codec": "ffv1"}]

    result = bwpipe.run({"stages": stages}, quiet=quiet)

    assert (result.done, len(result.failed)) == (4, 1)
    if type(stream) is Log:
        assert r"壊れた.jpg: " in stream.text


def test_a_tilde_stands_for_the_home_folder_and_for_itself_where_there_is_no_such_user(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody-here").mkdir()
    (tmp_path / "~nobody-here" / "a.pgm").write_bytes((folder / "in" / NAMES[0]).read_bytes())

    def stages(source: str, output: str) -> dict[str, object]:
        return {"stages": [{"use": "read", "path": source}, {"use": "write", "path": output}]}

    assert bwpipe.run(stages("~nobody-here", "~/out"), quiet=True).done == 1
    assert (tmp_path / "out" / "a.ppm").is_file()
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump(stages("~/~nobody-here", "~nobody-there")))
    assert bwpipe.run("~/graph.yaml", quiet=True).done == 1
    assert (tmp_path / "~nobody-there" / "a.ppm").is_file()
