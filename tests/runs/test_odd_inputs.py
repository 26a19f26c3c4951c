"""Runs over folders as people have them: files of other kinds, links, pipes, names that clash."""

import json
import mimetypes
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bwpipe import MediaError, Source, Unit
from bwpipe.core.stage import stages
from bwpipe.engine.run import RunResult, run
from bwpipe.errors import UsageError
from bwpipe.graph.graph import read_graph
from bwpipe.tools.describe import describe_graph
from tests.support.made_films import MKV, make_film, opened, read


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path)
    return path


def graph(source: Path | str, out: Path, **options: Any) -> dict[str, Any]:
    write = {"use": "write", "path": str(out), "preset": "ultrafast", **options}
    return {"stages": [{"use": "read", "path": str(source)}, write]}


def written(source: Path | str, out: Path, **options: Any) -> tuple[RunResult, list[str]]:
    """Run without colouring; the result and the names of the outputs."""
    result = run(graph(source, out, **options))
    return result, sorted(str(path.relative_to(out)) for path in out.rglob("[!.]*.*") if ".bwpipe" not in path.parts)


def failed(result: RunResult) -> dict[str, str]:
    return {path.name: why for path, why in result.failed.items()}


def test_pipes_sockets_and_links_are_named_and_never_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "in" / "good.png")
    picture(tmp_path / "outside.png")
    monkeypatch.chdir(tmp_path / "in")
    os.mkfifo("pipe.jpg")
    os.mkfifo("pipe")
    links = {"to_pipe.mov": "pipe", "loop.png": "loop.png", "gone.png": "none", "out.png": "../outside.png"}
    for name, target in links.items():
        Path(name).symlink_to(target)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")

    result, names = written(tmp_path / "in", tmp_path / "out")

    assert names == ["good.png"]
    pipe = "it is a pipe, which is not read; copy what it gives into a file"
    assert failed(result) == {
        "pipe": pipe,
        "pipe.jpg": pipe,
        "to_pipe.mov": pipe,
        "loop.png": "cannot be read (Too many levels of symbolic links)",
        "gone.png": "cannot be read (No such file or directory)",
        "out.png": "it is a link out of the folder or to a folder; read its target separately",
        "socket.png": "it is a socket, which is not read; copy what it gives into a file",
    }


def test_files_of_other_kinds_are_counted_and_named_whatever_the_machine_knows_of_endings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "in" / "good.png")
    for name in ("scan.psd", "scan.TGA", "reel.264", "notes.txt", "more.TXT", "page.pdf", "README"):
        (tmp_path / "in" / name).write_bytes(b"of another kind")
    monkeypatch.setattr(mimetypes, "types_map", {})

    result, _ = written(tmp_path / "in", tmp_path / "out")

    assert result.done == 1
    assert sorted(failed(result)) == ["reel.264", "scan.TGA", "scan.psd"]
    assert all("convert it first, a picture to PNG, TIFF or JPEG, a film to MP4" in why for why in failed(result).values())
    kinds = {"of another kind (.txt)": 2, "of another kind (.pdf)": 1, "of another kind (no ending)": 1}
    assert result.left_out == kinds
    events = [json.loads(line) for line in (tmp_path / "out" / ".bwpipe" / "report.jsonl").read_text().splitlines()]
    left_out = [Path(event["path"]).name for event in events if event["event"] == "left out"]
    assert sorted(left_out) == ["README", "more.TXT", "notes.txt", "page.pdf"]
    line = "4 files are of other kinds than pictures and films, and skipped: README, more.TXT, page.pdf and 1 more"
    assert line in describe_graph(read_graph(graph(tmp_path / "in", tmp_path / "out")))


def test_a_film_that_decoders_can_not_open_fails_and_the_others_are_processed(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "good.png")
    frame = b"FRAME\n" + bytes([255] * 16 * 16 * 2)  # samples of 16 bits, where 10 are declared
    (tmp_path / "in" / "a.y4m").write_bytes(b"YUV4MPEG2 W16 H16 F25:1 Ip A1:1 Cmono10\n" + frame)

    result, names = written(tmp_path / "in", tmp_path / "out")

    assert (names, failed(result)) == (["good.png"], {"a.y4m": "it is damaged: it has samples of more than its 10 bits"})


@pytest.mark.parametrize(("chroma", "clipped"), [("mono10", 2), ("420p10", 1)])  # the chroma of a grey film is not read
def test_samples_beyond_the_depth_of_a_film_are_clipped_with_one_warning(chroma: str, clipped: int, tmp_path: Path) -> None:
    count, size = 16 * 16, 16 * 16 * (3 if chroma == "420p10" else 2) // 2
    frames = np.full((300, size), 512, "<u2")
    frames[:, :count] = np.arange(count) * 3 + 100
    frames[200, 5] = 5000  # between the frames that are looked at beforehand
    frames[201, -1] = 40000
    source = tmp_path / "film.y4m"
    header = f"YUV4MPEG2 W16 H16 F25:1 Ip A1:1 C{chroma}\n".encode()
    source.write_bytes(header + b"".join(b"FRAME\n" + frame.tobytes() for frame in frames))

    result = run(
        {"stages": [{"use": "read", "path": str(source)}, {"use": "write", "path": str(tmp_path / "out"), "codec": "ffv1"}]}
    )

    assert (result.exit_code, result.failed) == (0, {})
    assert [text for text in result.remarks if "bits" in text] == [
        f"{clipped} of 300 frames have samples of more than 10 bits, which are clipped"
    ]
    lumas = [frame.luma.ravel() for frame in read(opened(next((tmp_path / "out").glob("film.*"))))]
    expected = np.minimum(frames[:, :count], 1023)
    assert len(lumas) == 300
    assert all((luma == wanted).all() for luma, wanted in zip(lumas, expected, strict=True))


def test_films_of_one_name_fail_alone_and_can_be_told_apart_by_their_endings(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "good.png")
    for name in ("reel.mkv", "reel.avi"):
        make_film(tmp_path / "in" / name, MKV)

    result, names = written(tmp_path / "in", tmp_path / "out")

    assert (names, sorted(failed(result))) == (["good.png"], ["reel.avi", "reel.mkv"])
    one, other, out = tmp_path / "in" / "reel.avi", tmp_path / "in" / "reel.mkv", tmp_path / "out" / "reel.mkv"
    remedy = 'rename one, or write to another `name`, as `--set "write.name={stem}-{suffix}"` does'
    assert result.failed[one] == f"it and {other} would both become {out}; {remedy}"
    result, names = written(tmp_path / "in", tmp_path / "out", name="{stem}-{suffix}")
    assert (result.exit_code, names) == (0, ["good-png.png", "good.png", "reel-avi.mkv", "reel-mkv.mkv"])


def test_outputs_with_endings_in_their_names_can_be_verified(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "scan.png")
    picture(tmp_path / "in" / "scan.bmp")
    written(tmp_path / "in", tmp_path / "out", name="{stem}-{suffix}")
    command = [sys.executable, "-m", "bwpipe", "verify", "in", "out", "--name", "{stem}-{suffix}"]

    verified = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    assert "2 files with only colour added" in verified.stdout, verified


def test_the_pictures_of_a_pattern_in_a_folder_with_brackets_are_found(tmp_path: Path) -> None:
    picture(tmp_path / "Family [1940s]" / "a.png")

    assert written(tmp_path / "Family [1940s]" / "*.png", tmp_path / "out")[1] == ["a.png"]


@pytest.mark.parametrize("name", ["{stem:>9999999999}", "{stem!r:>99}", "{stem!r}", "{stem.__class__}", "{suffix}", "{stem}\0"])
def test_a_name_with_anything_but_the_fields_is_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"expected a name that contains \{stem\} exactly once"):
        read_graph(graph(tmp_path, tmp_path / "out", name=name))


def test_nothing_is_read_through_a_link_that_replaced_an_input(tmp_path: Path) -> None:
    source = stages["read"].model_validate({"path": str(tmp_path / "in")})
    assert isinstance(source, Source)
    picture(tmp_path / "in" / "deep" / "scan.png")
    picture(tmp_path / "outside" / "scan.png")
    (unit,) = source.units()
    assert isinstance(unit, Unit)
    (tmp_path / "in" / "deep").rename(tmp_path / "moved")
    (tmp_path / "in" / "deep").symlink_to(tmp_path / "outside")

    with pytest.raises(MediaError, match="it or its folder was replaced by a link during the run"):
        list(source.read(unit, 0))
