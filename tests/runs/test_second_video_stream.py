"""Films with two video streams: one, which can be chosen, is coloured and the other copied."""

from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from numpy.testing import assert_array_equal

from bwpipe.engine.run import run
from bwpipe.errors import MediaError
from bwpipe.video.file import VideoFile
from bwpipe.video.probe import open_video
from tests.cli.test_commands import bwpipe
from tests.support.made_films import RICH, make_film, make_rich_film, moments, read
from tests.support.made_films import opened as opened_default


def opened(path: Path, picture: int) -> VideoFile:
    return open_video(path, PurePosixPath(path.name), max_pixels=1_000_000, picture=picture)


def written(source: Path, out: Path, **options: Any) -> Path:
    stages = [{"use": "read", "path": str(source), **options}, {"use": "write", "path": str(out), "codec": "ffv1"}]
    assert run({"segment": 7, "stages": stages}).failed == {}
    return next(path for path in out.iterdir() if path.is_file())


@pytest.mark.parametrize("name", ["MP4", "Matroska"])
def test_the_other_stream_is_coloured_on_request_and_then_the_first_too(name: str, tmp_path: Path) -> None:
    source = make_rich_film(tmp_path / f"rich{RICH[name].suffix}", RICH[name])
    assert (opened_default(source).picture, len(opened_default(source).times)) == (2, 30)

    once = written(source, tmp_path / "once", picture=1)
    twice = written(once, tmp_path / "twice", picture=2)

    assert "only colour was added" in bwpipe("verify", str(source), str(once))
    assert "only colour was added" in bwpipe("verify", str(once), str(twice))
    assert [opened(path, 1).codec for path in (source, once, twice)] == ["h264", "ffv1", "ffv1"]
    assert [opened(path, 2).codec for path in (source, once, twice)] == ["h264", "h264", "ffv1"]
    for picture in (1, 2):
        before, after = opened(source, picture), opened(twice, picture)
        assert len(before.times) == len(after.times) == [20, 30][picture - 1]
        rounding = Fraction(0) if name == "MP4" else Fraction(1, 2000)
        assert all(abs(a - b) <= rounding for a, b in zip(moments(before), moments(after), strict=True))
        for one, other in zip(read(before), read(after), strict=True):
            assert_array_equal(one.luma, other.luma)


def test_a_missing_video_stream_is_rejected(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mp4", RICH["MP4"])

    with pytest.raises(MediaError, match="it has no video stream number 2; set `picture` to a lower number, or leave it out"):
        opened(source, 2)
