import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from bwpipe.core.provenance import Provenance, add_note, append_line, read_note, split_note
from bwpipe.engine.run import run
from bwpipe.image.provenance_tag import history, with_history
from bwpipe.image.read import read_metadata
from bwpipe.image.tiff_ifd import HISTORY
from bwpipe.version import __version__
from bwpipe.video.file import open_container
from tests.image.test_write import opened as opened_picture
from tests.image.test_write import read
from tests.support.made_films import Kind, make_film, opened
from tests.support.made_pictures import COMMENT, DATE, DESCRIPTION, make_picture

_EXIF, _DATE = 34665, 36867
PROVENANCE = Provenance("0.1.0", ({"stage": "read", "frames": 5}, {"stage": "colorize", "network": "tiny", "weights": "12"}))


def coloured(source: Path, out: Path, *stages: dict[str, Any], **write: Any) -> Path:
    """Run a graph on a file and return its output."""
    graph = [{"use": "read", "path": str(source)}, *stages, {"use": "write", "path": str(out), **write}]
    assert run({"stages": graph}).exit_code == 0
    return next(path for path in out.iterdir() if path.is_file())


COLORIZE = {"use": "colorize", "model": "autoencoder", "precision": "float32"}


def note(path: Path) -> str:
    if path.suffix in {".mp4", ".mov", ".mkv"}:
        with open_container(path) as container:
            return {key.lower(): value for key, value in container.metadata.items()}["comment"]
    with Image.open(path) as image:
        return str(image.info.get("bwpipe") or image.getexif()[HISTORY])


def test_a_line_round_trips() -> None:
    line = PROVENANCE.line()

    assert line.startswith("Colour added by bwpipe 0.1.0, network tiny, weights 12 {")
    assert split_note(append_line("a note\nof two lines", line)) == ("a note\nof two lines", PROVENANCE)
    assert split_note(line) == ("", PROVENANCE)
    assert PROVENANCE.frames == 5


@pytest.mark.parametrize("text", ["", "Colour added by hand", "Colour added by bwpipe 0.1.0 {}", "Written by bwpipe 1 {[}"])
def test_other_text_is_unchanged(text: str) -> None:
    assert split_note(text) == (text, None)


def test_an_existing_comment_of_a_film_is_kept_whatever_its_case() -> None:
    tags = add_note({"COMMENT": "from the blue box", "title": "x"}, PROVENANCE.line())

    assert tags.keys() == {"COMMENT", "title"}
    assert read_note(tags) == ({"COMMENT": "from the blue box", "title": "x"}, PROVENANCE)


@pytest.mark.parametrize(
    "kind", ["jpeg-grey", "jpeg-progressive", "png-grey", "png-16-grey", "tiff-grey", "tiff-16-grey", "webp-alpha"]
)
def test_a_picture_states_that_colour_was_added_and_keeps_its_metadata(kind: str, tmp_path: Path) -> None:
    original = make_picture(tmp_path, kind, orientation=6)

    path = coloured(original.path, tmp_path / "out", {"use": "grayscale"}, COLORIZE)

    assert note(path).startswith(f"Colour added by bwpipe {__version__}, network autoencoder, weights ")
    with Image.open(path) as image:
        if original.exif:
            assert image.getexif()[270] == DESCRIPTION
            assert image.getexif().get_ifd(_EXIF).get(_DATE, DATE) == DATE
        if kind == "jpeg-grey":
            assert image.info["comment"] == COMMENT.encode()
    assert opened_picture(path).orientation == original.orientation


def test_a_graph_that_adds_no_colour_does_not_claim_to(tmp_path: Path) -> None:
    picture = make_picture(tmp_path, "png-grey").path
    film = make_film(tmp_path / "film.mp4", Kind(times=[0, 512]))

    for number, source in enumerate((picture, film)):
        text = note(coloured(source, tmp_path / str(number), {"use": "grayscale"}))
        assert text.startswith(f"Written by bwpipe {__version__} {{")
        assert "olour added" not in text


def test_a_picture_that_keeps_its_own_colour_does_not_state_that_colour_was_added(tmp_path: Path) -> None:
    picture = tmp_path / "patches.png"
    patches = np.random.default_rng(7).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(patches).resize((64, 64), Image.Resampling.NEAREST).save(picture)

    kept = note(coloured(picture, tmp_path / "kept", {"use": "grayscale"}, COLORIZE))
    recoloured = note(coloured(picture, tmp_path / "recoloured", {"use": "grayscale", "colour": "recolour"}, COLORIZE))

    assert kept.startswith("Written by bwpipe")
    assert "autoencoder" not in kept
    assert recoloured.startswith("Colour added by bwpipe")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_film_states_that_colour_was_added(suffix: str, tmp_path: Path) -> None:
    film = make_film(tmp_path / f"film{suffix}", Kind(times=[0, 512, 1024]))

    path = coloured(film, tmp_path / "out", {"use": "grayscale", "colour": "recolour", "restore": True}, COLORIZE)

    _, provenance = read_note(opened(path).metadata[0])
    assert path.suffix == suffix
    assert provenance is not None
    assert provenance.version == __version__
    assert provenance.luma == ["restore"]
    assert [stage["stage"] for stage in provenance.stages] == ["read", "grayscale", "colorize", "write"]


def test_the_chosen_precision_and_device_are_recorded(tmp_path: Path) -> None:
    picture = make_picture(tmp_path, "png-grey").path

    path = coloured(picture, tmp_path / "out", {"use": "colorize", "model": "autoencoder", "device": ["cpu", "cpu"]})

    stage = json.loads(note(path)[note(path).index("{") :])["stages"][1]
    assert stage["precision"] in {"float32", "bfloat16"}
    assert stage["device"] == "cpu"


def test_processing_twice_is_recorded_twice(tmp_path: Path) -> None:
    first = coloured(make_picture(tmp_path, "tiff-grey").path, tmp_path / "first", COLORIZE)
    second = coloured(first, tmp_path / "second", {"use": "grayscale"}, COLORIZE)

    assert note(second).splitlines()[0] == note(first)
    assert len(note(second).splitlines()) == 2


@pytest.mark.parametrize("kind", ["jpeg-grey", "webp-colour", "png-16-grey"])
def test_a_note_keeps_all_exif_offsets(kind: str, tmp_path: Path) -> None:
    original = make_picture(tmp_path, kind)
    metadata = read_metadata(opened_picture(original.path), original.path.read_bytes())

    noted_twice = with_history(metadata, PROVENANCE.line(), target="webp")
    assert noted_twice
    noted_twice = with_history(noted_twice, PROVENANCE.line(), target="webp")

    assert noted_twice
    assert noted_twice.exif[8 : len(metadata.exif)] == metadata.exif[8:]
    assert history(noted_twice) == PROVENANCE


def test_damaged_exif_is_copied_unchanged_without_a_note(tmp_path: Path) -> None:
    picture = make_picture(tmp_path, "webp-alpha").path
    with Image.open(picture) as image:
        image.save(tmp_path / "damaged.webp", lossless=True, exact=True, exif=b"Exif\0\0II*\0\xff\xff\0\0")

    path = coloured(tmp_path / "damaged.webp", tmp_path / "out", COLORIZE)

    assert read_metadata(opened_picture(path), path.read_bytes()).exif == b"II*\0\xff\xff\0\0"
    assert_array_equal(read(path).luma, read(picture).luma)
