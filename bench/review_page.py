"""Measure how long the pages of an output folder with many pictures take to open in Chromium, and take screenshots.

    python -m bench.review_page [--pictures 2000] [--folder FOLDER] [--screenshots FOLDER]

Needs `pip install playwright` and `chromium` on the search path. The pictures, of scikit-image, are made once below --folder,
and coloured by `autoencoder`. A page is open when all of its entries are listed, and the pictures on the first screen are
decoded: seconds by the clock, the median of five, each in a fresh context. `report` is the file, `serve` the page of
`bwpipe review --serve`.
"""

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Thread
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import sync_playwright
from skimage import data

import bwpipe
from bwpipe.engine.last_run import LastRun
from bwpipe.review.corrections import Corrections
from bwpipe.review.desk import Desk
from bwpipe.review.entries import read_album
from bwpipe.review.live_preview import LivePreview
from bwpipe.review.report import NAME, write_report
from bwpipe.review.server import ReviewServer

REPEATS = 5
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
OPEN = """() => {
    const seen = [...document.querySelectorAll(".card")].filter((card) => card.getBoundingClientRect().top < innerHeight);
    const images = seen.flatMap((card) => [...card.querySelectorAll("img")]);
    return seen.length > 0 && images.length > 0 && images.every((image) => image.complete && image.naturalWidth > 0);
}"""


def make(folder: Path, count: int) -> Path:
    """An output folder with this many pictures, made if it is not there."""
    out = folder / "out"
    if (out / ".bwpipe").is_dir():
        return out
    photographs: Any = data
    images = [photographs.astronaut(), photographs.coffee(), photographs.chelsea(), photographs.rocket()]
    (folder / "in").mkdir(parents=True)
    for number in range(count):
        image = images[number % len(images)]
        left, top = number // len(images) % 50, number // 200 % 50
        part = cv2.cvtColor(np.ascontiguousarray(image[top : top + 240, left : left + 320]), cv2.COLOR_RGB2GRAY)
        cv2.imwrite(str(folder / "in" / f"{number:05}.jpg"), part)
    bwpipe.colorize(str(folder / "in"), str(out), model="autoencoder", quiet=True)
    return out


@contextmanager
def served(out: Path) -> Iterator[str]:
    """The address of the page with corrections."""
    last = LastRun.read(out)
    assert last
    with LivePreview(last.read_graph()) as preview:
        desk = Desk(lambda: read_album(out), Corrections(out / "corrections", out), preview, None)
        with ReviewServer(desk) as server:
            thread = Thread(target=server.serve_forever, daemon=True)
            thread.start()
            yield server.address
            server.shutdown()
            thread.join()


def opened(browser: Any, address: str, size: str) -> tuple[float, Any]:
    """The seconds that a page took to open, and the page."""
    width, height = SIZES[size]
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    start = perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_function(OPEN, timeout=120_000)
    return perf_counter() - start, page


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--folder", type=Path, default=Path("build/review-page"))
    parser.add_argument("--screenshots", type=Path)
    given = parser.parse_args()
    out = make(given.folder.resolve(), given.pictures)
    start = perf_counter()
    write_report(read_album(out), out / NAME)
    print(f"bwpipe report: {perf_counter() - start:.1f} s, {(out / NAME).stat().st_size / 1e6:.1f} MB", flush=True)
    with sync_playwright() as playwright, served(out) as address:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, place in (("report", (out / NAME).as_uri()), ("serve", address)):
            seconds = []
            for _ in range(REPEATS):
                took, page = opened(browser, place, "desktop")
                seconds.append(took)
                page.context.close()
            print(f"{name}: open after {median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})", flush=True)
            for size in SIZES if given.screenshots else ():
                given.screenshots.mkdir(parents=True, exist_ok=True)
                _, page = opened(browser, place, size)
                page.screenshot(path=str(given.screenshots / f"{name}-{size}.png"))
                page.locator(".open").first.click()
                page.wait_for_timeout(1500)
                page.screenshot(path=str(given.screenshots / f"{name}-{size}-viewer.png"))
                page.context.close()
        browser.close()


if __name__ == "__main__":
    main()
