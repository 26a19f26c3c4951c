"""Tests of the command `bwpipe verify` on folders."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from bwpipe.cli.main import app
from bwpipe.engine.run import run
from tests.cli.test_commands import bwpipe
from tests.support.made_films import Kind, make_film
from tests.support.made_pictures import COMMENT, make_picture


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with pictures and a film, and the output folder of a graph."""
    folder = tmp_path_factory.mktemp("run")
    scans = folder / "scans"
    (scans / "album").mkdir(parents=True)
    make_picture(scans / "album", "jpeg-grey")
    make_picture(scans / "album", "gif")
    make_picture(scans, "tiff-16-grey")
    make_film(scans / "tiff-16-grey.mp4", Kind(times=range(0, 12 * 512, 512), sound="aac"))
    stages = [
        {"use": "read", "path": str(scans)},
        {"use": "grayscale", "colour": "recolour"},
        {"use": "colorize", "model": "autoencoder", "precision": "float32"},
        {"use": "write", "path": str(folder / "out"), "codec": "ffv1", "container": "same"},
    ]
    assert run({"stages": stages}).exit_code == 0
    return scans, folder / "out"


def results(*arguments: str) -> tuple[int, list[str], list[str]]:
    result = CliRunner().invoke(app, ["verify", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout.splitlines(), result.stderr.splitlines()


def test_a_folder_tree_is_compared_with_its_output_tree(coloured: tuple[Path, Path]) -> None:
    scans, out = coloured

    report = json.loads(bwpipe("verify", str(scans), str(out), "--json", "-"))

    pairs = {Path(file["input"]).name: Path(file["output"]).name for file in report["files"]}
    assert pairs == {
        "jpeg-grey.jpg": "jpeg-grey.jpg",
        "gif.gif": "gif.png",
        "tiff-16-grey.tif": "tiff-16-grey.tif",
        "tiff-16-grey.mp4": "tiff-16-grey.mp4",
    }
    assert all(file["same"] for file in report["files"])
    stages = {stage["stage"]: stage for stage in report["files"][0]["provenance"]["stages"]}
    assert stages["colorize"]["network"] == "autoencoder"


def test_one_file_is_found_in_a_folder_of_outputs(coloured: tuple[Path, Path]) -> None:
    scans, out = coloured

    assert bwpipe("verify", str(scans / "tiff-16-grey.tif"), str(out)).endswith("1 file with only colour added\n")


def test_several_inputs_are_compared_with_one_folder_of_outputs(
    coloured: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, out = coloured
    monkeypatch.chdir(out.parent)
    inputs = (str(scans / "album" / "*.jpg"), str(scans / "tiff-16-grey.mp4"))
    (tmp_path / "out").mkdir()
    shutil.copy(out / "album" / "jpeg-grey.jpg", tmp_path / "out")
    shutil.copy(out / "tiff-16-grey.mp4", tmp_path / "out")

    assert bwpipe("verify", *inputs, str(tmp_path / "out")).endswith("2 files with only colour added\n")
    assert "there are 2 inputs; give the folder" in bwpipe("verify", *inputs, str(out / "tiff-16-grey.mp4"), code=2)


def test_outputs_below_the_current_folder_are_named_as_one_would_type_them(
    coloured: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, out = coloured
    monkeypatch.chdir(out.parent)

    code, lines, _ = results(str(scans / "album"), str(out / "album"))

    assert code == 0
    assert [line.partition(":")[0] for line in lines[:-1]] == ["out/album/gif.png", "out/album/jpeg-grey.jpg"]


def test_a_folder_of_frames_without_a_rate_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for number in range(3):
        (tmp_path / f"reel_{number}.dpx").write_bytes(b"SDPX" + bytes(2044))

    message = "has numbered frames of a film; compare them with --rate, such as --rate 24"
    assert message in bwpipe("verify", str(tmp_path), str(tmp_path / "out"), code=2)


def test_a_missing_output_is_a_difference(coloured: tuple[Path, Path], tmp_path: Path) -> None:
    scans, out = coloured
    incomplete = Path(shutil.copytree(out, tmp_path / "out"))
    (incomplete / "album" / "gif.png").unlink()

    code, lines, _ = results(str(scans), str(incomplete), "--quiet")

    assert (code, lines) == (1, [f"{scans / 'album' / 'gif.gif'}: difference: it has no output"])


def test_an_unreadable_file_gives_exit_code_2_and_the_others_are_compared(coloured: tuple[Path, Path], tmp_path: Path) -> None:
    scans, out = coloured
    copy = Path(shutil.copytree(out, tmp_path / "out"))
    damaged = copy / "album" / "jpeg-grey.jpg"
    damaged.write_bytes(damaged.read_bytes()[:300])

    code, lines, errors = results(str(scans), str(copy))

    assert code == 2
    assert lines[-1] == "3 files with only colour added, 1 unreadable"
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {damaged}: ")


def test_outputs_beside_their_inputs_are_found_by_name(tmp_path: Path) -> None:
    make_picture(tmp_path, "png-grey")
    stages = [{"use": "read", "path": str(tmp_path)}, {"use": "write", "path": str(tmp_path), "name": "{stem}-coloured"}]
    assert run({"stages": stages}).exit_code == 0

    lines = bwpipe("verify", str(tmp_path), str(tmp_path), "--name", "{stem}-coloured").splitlines()

    assert [line.partition(":")[0] for line in lines[:1]] == [str(tmp_path / "png-grey-coloured.png")]
    assert lines[-1] == "1 file with only colour added"


def test_wrong_arguments_give_exit_code_2(coloured: tuple[Path, Path], tmp_path: Path) -> None:
    scans, out = coloured

    assert "there is no file or folder" in bwpipe("verify", str(scans), str(tmp_path / "gone"), code=2)
    assert "there is no file or folder" in bwpipe("verify", str(tmp_path / "gone"), str(out), code=2)
    assert "give two files, or two folders" in bwpipe("verify", str(scans), str(out / "tiff-16-grey.tif"), code=2)
    assert "--name must contain {stem} exactly once" in bwpipe("verify", str(scans), str(out), "--name", "coloured", code=2)
    (tmp_path / "none").mkdir()
    assert "there is nothing to compare" in bwpipe("verify", str(tmp_path / "none"), str(out), code=2)


def test_a_film_is_not_accepted_as_the_output_of_a_picture(coloured: tuple[Path, Path]) -> None:
    scans, out = coloured

    code, lines, _ = results(str(scans / "tiff-16-grey.tif"), str(out / "tiff-16-grey.mp4"))

    assert code == 1
    assert lines[1].endswith("difference: it is a film, but the input is a picture")


def test_outputs_carry_a_provenance_line(coloured: tuple[Path, Path]) -> None:
    _, out = coloured
    with Image.open(out / "album" / "jpeg-grey.jpg") as jpeg, Image.open(out / "album" / "gif.png") as png:
        lines = [jpeg.getexif()[37395], png.info["bwpipe"]]

    assert all(line.startswith("Colour added by bwpipe ") for line in lines)
    assert all("network autoencoder, weights " in line for line in lines)


def test_an_output_of_an_earlier_revision_whose_luma_differs_is_said_to_be_old(tmp_path: Path) -> None:
    source = make_picture(tmp_path, "jpeg-grey").path
    write = {"use": "write", "path": str(tmp_path / "out")}
    assert run({"stages": [{"use": "read", "path": str(source)}, write]}).exit_code == 0
    output = tmp_path / "out" / source.name
    with Image.open(output) as image:
        exif, options = image.getexif(), {"dpi": image.info["dpi"], "icc_profile": image.info.get("icc_profile")}
        latest = json.loads(exif[37395].partition("{")[2].join("{ "))["stages"][-1]["revision"]

        def rewritten(revision: int) -> tuple[int, list[str], list[str]]:
            """Another luma, as 0.1.0 wrote it, in a file that states this revision of `write`."""
            exif[37395] = exif[37395].replace(f'"write", "revision": {latest}', f'"write", "revision": {revision}')
            image.copy().point(lambda code: min(code + 1, 255)).save(
                output, "JPEG", quality=100, exif=exif, comment=COMMENT, **options
            )
            exif[37395] = exif[37395].replace(f'"write", "revision": {revision}', f'"write", "revision": {latest}')
            return results(str(source), str(output), "--quiet")

        age = f"written by an earlier revision of bwpipe (write 3, now {latest}); `bwpipe run --update` writes it again: "
        code, (line,), _ = rewritten(3)
        assert (code, line.startswith(f"{output}: difference: {age}the luma differs")) == (1, True)
        code, (line,), _ = rewritten(latest)
        assert (code, line.startswith(f"{output}: difference: the luma differs")) == (1, True)


@pytest.mark.parametrize(("crf", "code"), [(17, 0), (51, 1)])
def test_write_with_verify_rejects_a_film_whose_luma_changed_too_much(crf: int, code: int, tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", Kind(times=range(0, 12 * 512, 512)))
    write = {"use": "write", "path": str(tmp_path / "out"), "crf": crf, "verify": True}

    result = run({"stages": [{"use": "read", "path": str(film)}, write]})

    assert result.exit_code == code
    assert (tmp_path / "out" / "film.mp4").exists() == (code == 0)
    assert all("differs in more than colour: 16x16 blocks of luma are off by" in text for text in result.failed.values())


def test_pictures_are_verified_before_they_get_their_final_names(tmp_path: Path) -> None:
    for kind in ("jpeg-grey", "png-16-grey", "gif"):
        make_picture(tmp_path, kind)
    write = {"use": "write", "path": str(tmp_path / "out"), "verify": True}

    assert run({"stages": [{"use": "read", "path": str(tmp_path)}, write]}).done == 3
