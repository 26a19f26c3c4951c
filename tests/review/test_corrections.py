"""The folder of corrections."""

from pathlib import Path, PurePosixPath

import pytest
import yaml

from bwpipe.errors import MediaError, UsageError
from bwpipe.memory.hints import Points
from bwpipe.review.corrections import Corrections, Place

COAT = Place(PurePosixPath("a/coat [1]*.jpg"))
FRAME = Place(PurePosixPath("reel.mp4"), frame=123, shot=4)
POINT = {"x": 12.5, "y": 8, "colour": "#a03020", "radius": 2}


@pytest.fixture
def corrections(tmp_path: Path) -> Corrections:
    return Corrections(tmp_path / "corrections", tmp_path)


def test_points_are_written_where_hints_are_found_and_read_again(corrections: Corrections) -> None:
    path = corrections.write_points(COAT, [POINT])

    assert path == corrections.folder / "hints" / "a" / "coat [1]*.jpg.yaml"
    assert Points.model_validate(yaml.safe_load(path.read_text())).points[0].colour == "#a03020"
    assert corrections.points(COAT) == [POINT]
    assert corrections.write_points(FRAME, [POINT]) == corrections.folder / "hints" / "reel.mp4" / "000123.yaml"
    assert corrections.write_points(COAT, []) is None
    assert corrections.hints(COAT) is None
    assert corrections.points(FRAME) == [POINT]


def test_a_text_by_hand_is_changed_in_its_place_and_a_drawing_is_not_replaced(corrections: Corrections) -> None:
    folder = corrections.folder / "hints" / "a"
    folder.mkdir(parents=True)
    (folder / "coat [1]*.yml").write_text('points: [{x: 1, y: 2, colour: "#00ff00"}]')

    assert corrections.write_points(COAT, [*corrections.points(COAT), POINT]) == folder / "coat [1]*.yml"
    assert len(corrections.points(COAT)) == 2
    (folder / "coat [1]*.yml").write_text('tint: "#8a7a60"')
    corrections.write_points(COAT, [POINT])
    assert (corrections.points(COAT), corrections.tint(COAT)) == ([POINT], "#8a7a60")
    (folder / "coat [1]*.jpg.png").write_bytes(b"drawn")
    with pytest.raises(UsageError, match="drawn by hand and comes first; remove it to set points here"):
        corrections.write_points(COAT, [POINT])
    assert (folder / "coat [1]*.jpg.png").read_bytes() == b"drawn"


def test_overrides_of_others_stay_as_they_are(corrections: Corrections) -> None:
    corrections.folder.mkdir()
    path = corrections.folder / "overrides.yaml"
    path.write_text('# mine\n- files: "a/*.jpg"   # all of them\n  vividness: 0.3')

    corrections.set_override(COAT, {"saturation": 0.8})
    corrections.set_override(FRAME, {"vividness": 0.2})
    corrections.set_override(COAT, {"saturation": 0.7, "vividness": 0.1})

    assert path.read_text().startswith('# mine\n- files: "a/*.jpg"   # all of them\n  vividness: 0.3\n')
    assert yaml.safe_load(path.read_text())[1:] == [
        {"files": "a/coat [1]\\*.jpg", "saturation": 0.7, "vividness": 0.1},
        {"files": "reel.mp4", "shots": [4], "vividness": 0.2},
    ]
    assert corrections.override(COAT) == {"saturation": 0.7, "vividness": 0.1}
    corrections.set_override(COAT, {})
    assert corrections.override(COAT) == {}
    assert len(yaml.safe_load(path.read_text())) == 2


def test_what_is_good_is_remembered(corrections: Corrections) -> None:
    corrections.mark(COAT, good=True)
    corrections.mark(FRAME, good=True)
    corrections.mark(Place(FRAME.name, 9, shot=2), good=True)

    assert yaml.safe_load((corrections.folder / "reviewed.yaml").read_text()) == [
        {"file": "a/coat [1]*.jpg"},
        {"file": "reel.mp4", "shots": [2, 4]},
    ]
    corrections.mark(FRAME, good=False)
    corrections.mark(COAT, good=False)
    assert corrections.reviewed() == {("reel.mp4", 2)}


def test_references_are_kept_by_name(corrections: Corrections) -> None:
    corrections.write_reference(COAT, b"one")

    assert corrections.reference(COAT) == corrections.folder / "references" / "a" / "coat [1]*.png"
    assert corrections.write_reference(FRAME, b"two") == corrections.folder / "references" / "reel.mp4" / "000123.png"
    corrections.remove_reference(COAT)
    assert corrections.reference(COAT) is None


def test_nothing_is_written_or_removed_through_a_link_that_leads_out(corrections: Corrections, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    (outside / "reel.mp4").mkdir(parents=True)
    (outside / "reel.mp4" / "000123.yaml").write_text("points: []")
    corrections.folder.mkdir()
    (corrections.folder / "hints").symlink_to(outside)

    for points in ([POINT], []):
        with pytest.raises(MediaError, match="a link that leads outside"):
            corrections.write_points(FRAME, points)
    assert [path.name for path in outside.rglob("*.yaml")] == ["000123.yaml"]
    assert (outside / "reel.mp4" / "000123.yaml").read_text() == "points: []"


@pytest.mark.parametrize("text", ["points: 3", "- [", "a: &a [1]\npoints: [*a]"])
def test_a_text_that_is_none_is_named(corrections: Corrections, text: str) -> None:
    path = corrections.folder / "hints" / "a" / "coat [1]*.jpg.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)

    with pytest.raises(MediaError, match=r"coat \[1\]\*.jpg.yaml (is|has)"):
        corrections.points(COAT)
