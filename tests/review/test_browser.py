"""Both pages in headless Chromium, which a driver moves: `pip install playwright`, and `chromium` on the search path."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import bwpipe
from tests.cli.test_commands import bwpipe as command
from tests.review.conftest import HOSTILE, SMALL, Client

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails the test if the program in it does, or if it asks for anything that its policy forbids."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    opened = context.new_page()
    opened.set_default_timeout(120_000)
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("dialog", lambda dialog: problems.append(f"a dialog: {dialog.message}"))
    yield opened
    context.close()
    assert problems == []


def position(page: Any, of: str) -> float:
    """Where a slider stands, 0 to 100."""
    return float(page.locator(f"{of} .compare input").first.input_value())


def test_the_static_page_is_moved_by_pointer_and_keys_and_fits_a_phone(page: Any, pictures: Path) -> None:
    command("report", str(pictures / "out"))

    page.goto((pictures / "out" / "report.html").as_uri())
    page.wait_for_selector(".card:nth-child(3)")
    box = page.locator(".card .compare").first.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 10)
    page.mouse.up()
    assert abs(position(page, ".card") - 20) <= 1
    page.keyboard.press("ArrowRight")
    assert abs(position(page, ".card") - 21) <= 1

    assert HOSTILE in page.locator(".name").all_inner_texts()
    page.keyboard.press("/")
    page.keyboard.type("script")
    assert page.locator(".name").all_inner_texts() == ["</script>b.png"]
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    assert page.locator("#viewer").evaluate("each => each.open")
    first = page.locator("#viewed").inner_text()
    page.keyboard.press("j")
    assert page.locator("#viewed").inner_text() != first
    page.keyboard.down("b")
    assert page.locator("#stage .compare.peek").count() == 1
    page.keyboard.up("b")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "open"

    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    widths = page.locator(".card").evaluate_all("cards => cards.map(card => card.getBoundingClientRect().width)")
    assert all(300 < width <= 360 for width in widths)


def test_a_dot_is_set_seen_saved_and_run(page: Any, client: Client) -> None:
    page.goto(client.server.address)
    page.locator(".open", has_text="svg").click()
    page.get_by_role("button", name="Dot", exact=True).click()
    page.get_by_role("button", name="red", exact=True).click()
    figure = page.locator("#stage .compare")
    box = figure.bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    page.wait_for_selector("#stage .compare[data-previews='1']")

    page.locator("#stage .marks g").focus()  # the keys move and remove dots
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#stage .compare[data-previews='2']")
    page.get_by_role("button", name="Dot in the middle").click()
    assert page.locator("#stage .marks g").count() == 2
    page.keyboard.press("Delete")
    assert page.locator("#stage .marks g").count() == 1
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("Saved to").wait_for()
    page.keyboard.press("g")
    page.get_by_role("button", name="Good", exact=True).wait_for()

    folder = client.folder / "out" / "corrections"
    [point] = yaml.safe_load((folder / "hints" / f"{HOSTILE}.yaml").read_text())["points"]
    assert abs(point["x"] - (0.25 * 64 + 0.48)) < 1.5
    assert abs(point["y"] - 24) < 1.5
    assert yaml.safe_load((folder / "reviewed.yaml").read_text()) == [{"file": HOSTILE}]
    times = {path: path.stat().st_mtime_ns for path in client.folder.glob("out/**/*.png")}
    places = [str(client.folder / name) for name in ("in", "out")]
    bwpipe.colorize(*places, model="autoencoder", hints=str(folder / "hints"), set=SMALL)
    assert [path.name for path, time in times.items() if path.stat().st_mtime_ns != time] == [HOSTILE]


def test_a_stroke_is_drawn_and_a_colour_is_taken_from_the_picture(page: Any, client: Client) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(client.server.address)
    page.locator(".open", has_text="a.png").click()
    page.get_by_role("button", name="Pick", exact=True).click()
    box = page.locator("#stage .compare").bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"])
    assert page.get_by_role("button", name="Dot", exact=True).get_attribute("aria-pressed") == "true"
    page.keyboard.press("s")
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.8 * box["height"], steps=6)
    page.mouse.up()
    page.wait_for_selector("#stage .compare[data-previews]")
    page.keyboard.press("Escape")  # leaving saves
    page.locator(".badge", has_text="corrected").wait_for()

    points = yaml.safe_load((client.folder / "out" / "corrections" / "hints" / "a.png.yaml").read_text())["points"]
    assert len(points) > 10
    assert len({point["colour"] for point in points}) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_preview_follows_a_reference_that_is_added_and_removed_and_strokes_in_a_png(page: Any, client: Client) -> None:
    strokes = Image.new("RGBA", (64, 48))
    strokes.paste((192, 32, 32, 255), (4, 20, 12, 28))
    (client.folder / "out" / "corrections" / "hints").mkdir(parents=True)
    strokes.save(client.folder / "out" / "corrections" / "hints" / "a.png.png")
    Image.new("RGB", (64, 48), (150, 105, 100)).save(client.folder / "still.png")

    page.goto(client.server.address)
    page.locator(".open", has_text="a.png").click()
    page.wait_for_selector("#stage .compare[data-previews='1']")  # for the strokes
    page.locator(".drop input").set_input_files(client.folder / "still.png")
    page.wait_for_selector("#stage .compare[data-previews='2']")
    assert page.get_by_text("The reference is saved").is_visible()
    page.get_by_role("button", name="Remove the reference").click()
    page.wait_for_selector("#stage .compare[data-previews='3']")
    assert page.get_by_text("The reference is removed").is_visible()
    assert not list((client.folder / "out" / "corrections").glob("references/**/*.png"))
    page.keyboard.press("Escape")
    page.locator(".open", has_text="svg").click()
    page.get_by_role("button", name="Dot", exact=True).wait_for()
    page.wait_for_timeout(300)  # twice as long as it takes to ask for a preview
    assert page.locator("#stage .compare[data-previews]").count() == 0
