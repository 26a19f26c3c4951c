"""The static page."""

import base64
import json
import re
import sqlite3
from contextlib import closing
from hashlib import sha256
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bwpipe as package
from bwpipe.core.inputs import find_files
from bwpipe.review import report
from bwpipe.review.entries import read_album
from bwpipe.review.page import embedded
from tests.cli.test_commands import bwpipe
from tests.review.conftest import HOSTILE, SMALL, colour, write_grey


def written(folder: Path) -> str:
    """The page of `out`, by the command."""
    printed = bwpipe("report", str(folder / "out"))
    assert printed.splitlines()[-1] == str(folder / "out" / "report.html")
    return (folder / "out" / "report.html").read_text(encoding="utf-8")


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def image(page: str, number: int) -> Any:
    found = re.search(rf'<script type="text/plain" id="i{number}">(.*?)</script>', page)
    assert found
    return Image.open(BytesIO(base64.b64decode(found[1])))


def test_a_page_shows_every_picture_before_and_after_and_nothing_of_it_comes_from_elsewhere(pictures: Path) -> None:
    page = written(pictures)

    data = data_of(page)
    assert sorted(file["name"] for file in data["files"]) == sorted(["a.png", "</script>b.png", HOSTILE])
    for entry in data["entries"]:
        assert image(page, entry["after"]).size == (64, 48)
        assert "before" not in entry, "a grey input looks like the luma of its output"
    assert not re.search(r"(?:src|href|action)\s*=\s*[\"'](?!data:,|#grid)", page.partition("<script>")[0])
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_names_of_files_stay_text(pictures: Path) -> None:
    page = written(pictures)

    assert "<svg onload" not in page
    assert len(re.findall("</script", page)) == len(re.findall("<script", page))
    assert embedded("</script><!--\u2028&") == '"\\u003c/script\\u003e\\u003c!--\\u2028\\u0026"'


def test_the_policy_names_the_style_and_the_programs_by_their_hashes(pictures: Path) -> None:
    page = written(pictures)

    policy = unescape(re.search(r'Content-Security-Policy" content="(.*?)"', page)[1])  # type: ignore[index]
    texts = re.findall(r"<(?:style|script)>(.*?)</(?:style|script)>", page, re.DOTALL)
    assert len(texts) == 2
    for text in texts:
        assert f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_an_input_that_does_not_look_like_the_luma_is_shown_itself(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    tint = np.full((40, 60, 3), (150, 120, 90), np.uint8) + np.arange(60, dtype=np.uint8)[None, :, None]
    Image.fromarray(tint).save(tmp_path / "in" / "sepia.png")
    colour(tmp_path, recolour=True)

    page = written(tmp_path)

    [entry] = data_of(page)["entries"]
    shown = np.asarray(image(page, entry["before"]).convert("RGB"), int)
    assert np.abs(shown - tint).mean() < 4


def test_a_film_is_shown_by_shot_with_three_frames_and_a_loop(film: Path) -> None:
    page = written(film)

    data = data_of(page)
    [entry] = data["entries"]
    assert (entry["shot"], entry["first"], entry["length"]) == (1, 0, 30)
    assert [image(page, number).size for number in entry["frames"]] == [(96, 64)] * 3
    assert image(page, entry["loop"]).size == (entry["count"] * 96, 64)
    assert entry["after"] == entry["frames"][1]
    assert data["files"][0]["film"] is True


def test_a_film_as_numbered_files_is_shown(tmp_path: Path) -> None:
    for number in range(14):
        write_grey(tmp_path / "in" / f"reel_{number:06}.png", number)
    places = [str(tmp_path / "in" / "reel_%06d.png"), str(tmp_path / "out")]
    assert package.colorize(*places, model="autoencoder", set={**SMALL, "read.rate": 24}).done == 1

    page = written(tmp_path)

    [entry] = data_of(page)["entries"]
    assert entry["length"] == 14
    assert [image(page, number).size for number in entry["frames"]] == [(64, 48)] * 3
    assert data_of(page)["files"][0]["film"] is True


def test_small_pictures_are_made_once_and_again_only_for_what_changed(pictures: Path) -> None:
    written(pictures)
    made = {path: path.stat().st_mtime_ns for path in (pictures / "out" / ".bwpipe" / "review").iterdir()}
    assert len(made) == 3
    write_grey(pictures / "in" / "a.png", 9)
    colour(pictures)

    written(pictures)

    now = {path: path.stat().st_mtime_ns for path in (pictures / "out" / ".bwpipe" / "review").iterdir()}
    assert len(now) == 3
    assert len(now.items() & made.items()) == 2


def test_too_many_pictures_for_one_file_stand_beside_it(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "EMBEDDED", 500)

    data = data_of(written(pictures))

    for entry in data["entries"]:
        assert (pictures / "out" / data["images"][entry["after"]]).is_file()
    elsewhere = bwpipe("report", str(pictures / "out"), "-o", str(pictures / "page.html"), code=2)
    assert f"write the page into {pictures / 'out'}, where they stand beside it" in elsewhere


def test_the_page_is_no_input_of_a_later_run_and_failures_are_listed(pictures: Path) -> None:
    (pictures / "in" / "torn.png").write_bytes((pictures / "in" / "a.png").read_bytes()[:200])
    colour(pictures)

    data = data_of(written(pictures))

    assert [each["name"] for each in data["failed"]] == ["torn.png"]
    assert not [path for path, _ in find_files(str(pictures / "out")) if ".bwpipe" in path.parts]
    assert colour(pictures).already == 3


def test_files_that_are_gone_are_counted_and_a_folder_without_a_run_is_refused(pictures: Path, tmp_path: Path) -> None:
    (pictures / "out" / "a.png").unlink()

    assert data_of(written(pictures))["gone"] == 1
    assert "no run has written into this folder" in bwpipe("report", str(pictures / "in"), code=2)
    assert "a page must be a .html file" in bwpipe("report", str(pictures / "out"), "-o", str(tmp_path / "a.txt"), code=2)


def test_a_picture_that_is_recorded_as_a_film_is_named(pictures: Path) -> None:
    with closing(sqlite3.connect(pictures / "out" / ".bwpipe" / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("UPDATE units SET frames = '0:9/9' WHERE target = CAST('a.png' AS BLOB)")
    target = pictures / "out" / "report.html"

    problems = report.write_report(read_album(pictures / "out"), target)
    assert problems == ["a.png: can't be shown: it is recorded as a film, and is none"]


def test_the_network_and_its_confidence_are_told_of_pictures(tmp_path: Path) -> None:
    write_grey(tmp_path / "in" / "a.png")
    package.colorize(str(tmp_path / "in"), str(tmp_path / "out"))

    [entry] = read_album(tmp_path / "out").entries

    assert 0 < entry.figures["confidence"] < 1
    assert entry.figures["doubt"] == pytest.approx(1 - entry.figures["confidence"], abs=2e-4)
    events = [json.loads(line) for line in (tmp_path / "out" / ".bwpipe" / "report.jsonl").read_text().splitlines()]
    [event] = [event for event in events if event["event"] == "picture"]
    assert (event["confidence"], event["kept"]) == (entry.figures["confidence"], False)
