import math
import re
import shutil
import subprocess
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bwpipe.training.monitor.progress_page import ReportData, page
from bwpipe.training.monitor.summary import Summary

VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Parses a page and checks that all tags are closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def found(self, tag: str, **attrs: str) -> list[dict[str, str]]:
        return [has for name, has in self.tags if name == tag and attrs.items() <= has.items()]


def jpeg(colour: tuple[int, int, int]) -> bytes:
    packed = BytesIO()
    Image.new("RGB", (300, 200), colour).save(packed, "JPEG")
    return packed.getvalue()


def report_data() -> ReportData:
    points = [
        {"step": i, "loss": 0.01 + math.exp(-i / 40), "rate": 1e-3 * (1 - i / 500), "photos_per_s": 70.0 + i % 5}
        for i in range(1, 401)
    ]
    history = [
        {"step": i, "epoch": i / 50, "loss": 0.02 + 1 / i, "rgb_mse": 0.004 + 1 / i, "grey_mse": 0.008, "chroma": i / 400}
        for i in range(50, 401, 50)
    ]
    return ReportData(
        title="train",
        graph="stages:\n  - use: read\n",
        goal="loss",
        best=history[-1],
        step=400,
        steps=500,
        epochs=10,
        points=points,
        history=history,
        sheet=jpeg((200, 0, 200)),
        running=True,
        written=datetime(2026, 5, 4, 13, 22, 5, tzinfo=UTC),
    )


def test_the_page_is_well_formed_and_self_contained() -> None:
    text = page(report_data())

    read = Reader(text)
    links = [has[name] for _, has in read.tags for name in ("src", "href", "xlink:href", "action", "data") if name in has]
    assert [link[:23] for link in links] == ["data:image/jpeg;base64,"]
    assert not read.found("script")
    assert not read.found("link")
    assert not re.search(r"https?:|//\w|@import|url\(", re.sub(r"base64,[^\"]+", "", text))
    assert b64decode(links[0].partition(",")[2]) == report_data().sheet


def test_every_figure_has_a_curve() -> None:
    read = Reader(page(report_data()))

    assert read.texts["b"] == ["loss", "mse", "chroma", "learning rate", "photos per s"]
    named = ["loss", "loss at validation", "rgb_mse at validation", "grey_mse at validation", "chroma at validation"]
    assert [text for text in read.texts["span"] if "_" in text or text[0].isalpha()] == [
        *("running", *named),
        *("rate", "photos_per_s"),
    ]
    lines = [has["d"] for has in read.found("path") if has["class"].startswith("line")]
    assert [len(line.split("L")) for line in lines] == [400, 8, 8, 8, 8, 400, 400]
    assert len([has for has in read.found("path") if has["class"].startswith("raw")]) == 2  # not of the learning rate
    places = [float(place) for line in lines for place in re.findall(r"[\d.]+", line)]
    assert 0 <= min(places) < 50
    assert 950 < max(places) <= 1000


def test_the_page_shows_the_key_figures() -> None:
    read = Reader(page(report_data()))

    assert read.texts["dt"] == ["step", "epoch", "best loss", "photos/s", "written"]
    assert [text.strip() for text in read.texts["dd"] if text.strip()] == ["400", "8", "0.0225", "70", "13:22:05"]
    assert {"of 500", "of 10", "at step 400", "2026-05-04 UTC"} <= set(read.texts["small"])
    assert read.found("progress", value="400", max="500")


@pytest.mark.parametrize(
    ("speed", "left", "until"), [(20.0, "2 min", "13:24"), (0.5, "1 h 40 min", "15:02"), (40.0, "75 s", "13:23")]
)
def test_the_time_left_follows_from_the_speed(speed: float, left: str, until: str) -> None:
    report = report_data()  # 100 steps are left
    points = [*report.points[:-1], {**report.points[-1], "photos_per_s": speed}]

    read = Reader(page(replace(report, points=points, batch=30)))

    shown = dict(zip(read.texts["dt"], [text.strip() for text in read.texts["dd"] if text.strip()], strict=True))
    assert shown["time left"] == left
    assert f"until about {until}, 2026-05-04" in read.texts["small"]


def test_there_is_no_time_left_where_it_is_not_known_or_the_training_has_ended() -> None:
    report = replace(report_data(), batch=30)

    for changed in (replace(report, running=False), replace(report, steps=None), replace(report, points=[])):
        assert changed.seconds_left is None
        assert "time left" not in Reader(page(changed)).texts["dt"]


def test_options_are_shown_and_compared_with_those_of_other_trainings() -> None:
    other = Summary(title="b", step=90, goal="loss", best={"step": 50, "epoch": 1, "loss": 0.5}, settings={"rate": "0.1"})
    report = replace(report_data(), settings={"rate": "0.2", "losses.rgb_mse": "1"}, others=[("run-b", other)])

    read = Reader(page(report))

    assert {"rate", "0.2", "losses.rgb_mse"} <= set(read.texts["td"])
    row = read.texts["td"][read.texts["td"].index("run-b") :]
    assert row[:2] == ["run-b", "90"]
    assert "0.5000" in row
    assert "rate: 0.1, losses.rgb_mse: default" in row
    assert "options that differ" not in Reader(page(report_data())).texts["th"]


def test_the_newest_validation_is_first_and_the_best_is_marked() -> None:
    report = report_data()
    read = Reader(page(replace(report, best=report.history[2])))

    assert read.texts["th"] == ["step", "epoch", "loss", "rgb_mse", "grey_mse", "chroma"]
    cells = read.texts["td"]
    assert cells[:6] == ["400", "8", "0.02250", "0.006500", "0.008000", "1.000"]
    assert cells[-6:-4] == ["50", "1"]
    assert [has.get("class") for has in read.found("tr")[1:]].index("best") == 5


def test_the_page_reloads_only_while_the_training_runs() -> None:
    running, ended = (Reader(page(replace(report_data(), running=state))) for state in (True, False))

    assert running.found("meta", **{"http-equiv": "refresh"})
    assert "running" in running.texts["span"]
    assert not ended.found("meta", **{"http-equiv": "refresh"})
    assert "ended" in ended.texts["span"]


def test_names_from_users_are_escaped() -> None:
    nasty = '"><img src=x>\'</title></pre><script>alert("&amp;")</script>'
    report = replace(report_data(), title=nasty, graph=nasty, goal=nasty)
    figures = {**report.history[-1], nasty: 1.0}

    read = Reader(page(replace(report, history=[figures], best=figures, points=[{"step": 1, nasty: 2.0}])))

    assert not read.found("script")
    assert len(read.found("img")) == 1
    assert "".join(read.texts["pre"]) == nasty
    assert "".join(read.texts["h1"]) == nasty
    assert nasty in read.texts["th"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_is_left_out_of_its_curve(value: float) -> None:
    report = report_data()
    points = [{**point, "loss": value if point["step"] == 7 else point["loss"], "gradient": value} for point in report.points]

    read = Reader(page(replace(report, points=points, history=[{"step": 1, "epoch": 0.1, "loss": value}])))

    assert "gradient" not in read.texts["b"]
    assert all("nan" not in has["d"] and "inf" not in has["d"] for has in read.found("path"))
    assert f"{value:#.4g}" in read.texts["td"]


@pytest.mark.parametrize("count", [0, 1])
def test_a_training_that_has_just_started_has_a_page_too(count: int) -> None:
    report = report_data()
    young = replace(
        report, step=count, points=report.points[:count], history=[], best=None, sheet=None, steps=None, epochs=None
    )

    read = Reader(page(young))

    assert len(read.found("figure")) == 3 * count
    assert not read.found("table")
    assert not read.found("progress")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(("width", "dark", "rows"), [(1200, False, slice(220, 570)), (500, True, slice(430, 740))])
def test_a_browser_draws_the_curves_and_the_sheet(tmp_path: Path, width: int, dark: bool, rows: slice) -> None:
    (tmp_path / "progress.html").write_text(page(report_data()), encoding="utf-8")
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    command += [f"--window-size={width},2400", f"--screenshot={tmp_path / 'shot.png'}"]

    subprocess.run([*command, (tmp_path / "progress.html").as_uri()], check=True, capture_output=True, timeout=100)

    with Image.open(tmp_path / "shot.png") as image:
        seen = np.asarray(image.convert("RGB")).astype(int)
    assert (seen[:, :4] == ([20, 23, 28] if dark else [246, 247, 249])).all()
    blue = seen[rows, :, 2] - seen[rows, :, 0]  # in the large chart, the training is blue and the validation orange
    for curve in (blue > 40, blue < -40):
        assert curve.any(axis=0).sum() > 0.8 * (width - 150)
    assert (np.abs(seen - [200, 0, 200]).max(axis=2) < 8).sum() > 0.95 * 300 * 200
