from dataclasses import replace
from pathlib import Path

import pytest

from bwpipe.errors import MediaError, UsageError
from bwpipe.film import Film
from bwpipe.film.codec import Encoding, check_encoding, chroma_grid
from bwpipe.film.containers import Container, container_for
from bwpipe.film.write import FilmWriter
from tests.made_films import FFV1, H264, MKV, make_corpus, make_film, opened


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Film]:
    return make_corpus(tmp_path_factory.mktemp("films"))


REFUSED = {
    "there is no video encoder 'h26'; did you mean 'h264'?": Encoding(codec="h26"),
    "there is no video encoder 'ffvl'; did you mean 'ffv1'?": Encoding(codec="ffvl"),
    "there is no video encoder 'aac'; the usual ones are h264, h265 and ffv1": Encoding(codec="aac"),
    "the encoder ffv1 has no option 'crf'": Encoding(codec="ffv1", crf=17),
    "the encoder libx264 has no option 'tuner'; did you mean 'tune'?": Encoding(options={"tuner": "film"}),
    "the encoder libx264 has no pixel format 'yuv420'; did you mean 'yuv420p'?": Encoding(pix_fmt="yuv420"),
    "the encoder libx264 does not take these options; change `codec` or its options": Encoding(options={"level": "77"}),
}


@pytest.mark.parametrize("text", REFUSED)
def test_an_encoding_that_does_not_exist_is_refused_with_the_nearest(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_encoding(REFUSED[text])

    assert str(caught.value) == text


@pytest.mark.parametrize(
    "encoding", [Encoding(), Encoding(codec="h265", crf=20, preset="fast"), FFV1, Encoding(codec="libvpx-vp9", crf=30)]
)
def test_an_encoding_that_exists_is_not_refused(encoding: Encoding) -> None:
    check_encoding(encoding)


def test_the_output_has_the_container_of_the_input_or_is_matroska(corpus: dict[str, Film]) -> None:
    chosen = {name: container_for(film, FFV1).suffix for name, film in corpus.items()}

    assert chosen["Matroska"] == chosen["AVI"] == chosen["transport stream"] == ".mkv"
    assert chosen["10 bits"] == ".mp4"
    assert chosen["PCM sound"] == ".mp4"  # QuickTime has no name for FFV1, MP4 has
    assert container_for(corpus["PCM sound"], H264) == Container("mov", ".mov")


def test_more_bits_than_the_encoder_holds_are_refused(tmp_path: Path) -> None:
    film = opened(make_film(tmp_path / "film.mkv", replace(MKV, pix_fmt="yuv420p12le")))

    with pytest.raises(MediaError, match=r"libx264 can't hold frames of 96x64 with 12 bits .* such as ffv1"):
        FilmWriter(tmp_path / "made.mkv", film, H264, warn=print)


def test_chroma_lies_on_the_grid_of_the_source_and_on_all_of_it_for_odd_sizes(corpus: dict[str, Film]) -> None:
    assert chroma_grid(corpus["10 bits"], H264) == (32, 48, (2, 2), (0.5, 0.0))
    assert chroma_grid(corpus["10 bits, 4:2:2"], H264) == (64, 48, (1, 2), (0.0, 0.0))
    assert chroma_grid(corpus["grey"], H264) == (32, 48, (2, 2), (0.5, 0.0))
    assert chroma_grid(corpus["RGB"], H264) == (64, 96, (1, 1), (0.0, 0.0))
    assert chroma_grid(corpus["odd size"], H264) == (63, 97, (1, 1), (0.0, 0.0))
    assert chroma_grid(corpus["odd size"], FFV1) == (32, 49, (2, 2), (0.5, 0.0))
