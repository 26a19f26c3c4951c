"""Render docs/gallery.md and docs/images: photographs in grey, coloured by each network, and the originals; the README's too.

    python -m bench.gallery [--docs docs] [--models autoencoder unet]

The photographs are the four of scikit-image that are in the public domain or under CC0. They are coloured with the stages of
pipeline.yaml and scored by `bwpipe score`. The images are kept in the repository, so they are small: see `MAX_BYTES`.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

import bwpipe
from bwpipe.cli.main import app
from bwpipe.graph.templates import template
from bwpipe.tools.samples import photographs


class Credit(NamedTuple):
    """Where a photograph comes from, as scikit-image's documentation (`skimage.data`) says."""

    shows: str
    author: str
    licence: str


CREDITS = {
    "astronaut": Credit("Eileen Collins", "NASA", "public domain"),
    "chelsea": Credit("Chelsea the cat", "Stefan van der Walt", "CC0"),
    "coffee": Credit("a cup of coffee", "Rachel Michetti", "CC0"),
    "rocket": Credit("the launch of DSCOVR on a Falcon 9", "SpaceX", "public domain"),
}
FOLDER = "images"
MAX_BYTES = 60_000
"""Maximum size of each JPEG, and a share of the megabyte that all images may have."""
FIRST = "before-after"
FIRST_WIDTH, SHEET_WIDTH = 1120, 1000
GAP = 6
VIVID = (0.0, 0.25, 0.5, 0.75, 1.0)
SHOWN_VIVID = "chelsea"
PANNED = "coffee"
STRIP = "film"
STRIP_SIZE = (336, 190)
"""Width and height of the looping strip, in pixels."""
STRIP_FRAMES, STRIP_RATE = 36, 18

RGB = NDArray[np.uint8]


def write_photographs(reference: Path, grey: Path) -> None:
    """Write each photograph in colour and in grey."""
    for folder in (reference, grey):
        folder.mkdir(parents=True, exist_ok=True)
    for name, rgb in photographs():
        if name in CREDITS:
            Image.fromarray(rgb).save(reference / f"{name}.png")
            Image.fromarray(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)).save(grey / f"{name}.png")


def colour(source: Path, output: Path, options: dict[str, Any]) -> None:
    """Colour a folder or a film as pipeline.yaml does."""
    changes = {"read.path": str(source), "write.path": str(output), "grayscale.colour": "recolour", **options}
    result = bwpipe.run(template("pipeline.yaml"), set=changes, quiet=True)
    if result.exit_code:
        raise RuntimeError(str(result))


def scores(prediction: Path, reference: Path) -> dict[str, Any]:
    """The result of `bwpipe score` for each image, by file name without suffix."""
    arguments = ["score", "--guess", str(prediction), "--truth", str(reference), "--json", "-", "--quiet"]
    result = CliRunner().invoke(app, arguments)
    if result.exit_code:
        raise RuntimeError(result.output)
    return {Path(name).stem: each for name, each in json.loads(result.stdout)["pictures"].items()}


def row(paths: Sequence[Path], width: int) -> RGB:
    """Images side by side at the same height, (h, `width`, 3), with gaps in white."""
    images = [Image.open(path).convert("RGB") for path in paths]
    height = round((width - GAP * (len(images) - 1)) / sum(image.width / image.height for image in images))
    sheet = np.full((height, width, 3), 255, np.uint8)
    left = 0
    for index, image in enumerate(images):
        last = index == len(images) - 1
        right = width if last else left + round(height * image.width / image.height)
        sheet[:, left:right] = np.asarray(image.resize((right - left, height), Image.Resampling.LANCZOS))
        left = right + GAP
    return sheet


def write_jpeg(path: Path, pixels: RGB) -> None:
    """Write a JPEG of at most `MAX_BYTES` bytes, in the best quality that is as small."""
    for quality in range(92, 30, -2):
        data = BytesIO()
        Image.fromarray(pixels).save(data, "JPEG", quality=quality, optimize=True, progressive=True)
        if data.tell() <= MAX_BYTES:
            path.write_bytes(data.getvalue())
            return
    raise ValueError(f"{path}: can't be made smaller than {MAX_BYTES} bytes; make it narrower")


def write_pan(path: Path, photograph: Path) -> None:
    """Write a film in grey that pans over a photograph, without loss."""
    width, height = STRIP_SIZE
    with Image.open(photograph) as image:
        scale = 1.35 * width / image.width
        large = np.asarray(image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS))
    way = np.arange(STRIP_FRAMES) / (STRIP_FRAMES - 1)
    ease = (1 - np.cos(np.pi * way)) / 2  # it comes to rest where it turns
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=STRIP_RATE)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for index, part in enumerate(ease):
            left, top = (round(part * room) for room in (large.shape[1] - width, large.shape[0] - height))
            plane = np.ascontiguousarray(large[top : top + height, left : left + width])
            frame = av.VideoFrame.from_ndarray(plane, format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, STRIP_RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))


def write_strip(path: Path, film: Path) -> None:
    """Write a coloured film as a looping image, there and back, its left third in grey."""
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    border = STRIP_SIZE[0] // 3
    for frame in frames:
        frame[:, :border] = cv2.cvtColor(frame[:, :border], cv2.COLOR_RGB2GRAY)[..., None]
        frame[:, border - 1 : border + 1] = 255
    first, *others = (Image.fromarray(frame) for frame in (*frames, *frames[-2:0:-1]))
    first.save(path, "WEBP", save_all=True, append_images=others, duration=1000 // STRIP_RATE, loop=0, quality=45, method=6)


def render(docs: Path, models: Sequence[str]) -> Iterator[str]:
    """Write the images; yields the lines of the page."""
    folder = docs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    shown = models[-1]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        grey, reference = work / "grey", work / "reference"
        write_photographs(reference, grey)
        results = {}
        for model in models:
            output = work / Path(model).stem
            colour(grey, output, {"colorize.model": model})
            results[Path(model).stem] = scores(output, reference)
        (work / "one").mkdir()
        (work / "one" / f"{SHOWN_VIVID}.png").write_bytes((grey / f"{SHOWN_VIVID}.png").read_bytes())
        for value in VIVID:
            colour(work / "one", work / f"vivid-{value}", {"colorize.model": shown, "colorize.vividness": value})
        write_pan(work / "pan.mkv", grey / f"{PANNED}.png")
        colour(work / "pan.mkv", work / "film", {"colorize.model": shown, "write.codec": "ffv1"})
        write_strip(folder / f"{STRIP}.webp", work / "film" / "pan.mkv")
        columns = [grey, *(work / model for model in results), reference]
        sheets = {name: [column / f"{name}.png" for column in columns] for name in CREDITS}
        sheets["vividness"] = [work / f"vivid-{value}" / f"{SHOWN_VIVID}.png" for value in VIVID]
        for name, paths in sheets.items():
            write_jpeg(folder / f"{name}.jpg", row(paths, SHEET_WIDTH))
        rows = [row([place / f"{name}.png" for name in CREDITS], FIRST_WIDTH) for place in (grey, work / Path(shown).stem)]
        between = np.full((GAP, FIRST_WIDTH, 3), 255, np.uint8)
        write_jpeg(folder / f"{FIRST}.jpg", np.concatenate([rows[0], between, rows[1]]))
    yield from _page(results)


def _page(results: dict[str, Any]) -> Iterator[str]:
    columns = ", ".join(["grey", *results, "original"])
    yield from (
        "# Gallery",
        "",
        "`make gallery` writes this page, its images and those of the README: photographs of scikit-image, which no network",
        "was trained on, coloured by the stages of `pipeline.yaml` with default options.",
        f"From left to right: {columns}.",
        "",
    )
    for name, credit in CREDITS.items():
        yield from (
            f"![{credit.shows}: {columns}]({FOLDER}/{name}.jpg)",
            "",
            f"*{credit.shows[0].upper()}{credit.shows[1:]}. Photograph: {credit.author}, {credit.licence}.*",
            "",
        )
    steps = ", ".join(map(str, VIVID))
    panned = CREDITS[PANNED]
    yield from (
        "## A film",
        "",
        f"![a camera pans over {panned.shows}, in grey at the left and coloured at the right]({FOLDER}/{STRIP}.webp)",
        "",
        f"*{STRIP_FRAMES} frames that pan over one photograph ({panned.author}, {panned.licence}), coloured as a film.*",
        "",
        "## Vividness",
        "",
        f"From the safe, average colour to the vivid, most likely one: `--vividness` {steps}.",
        "",
        f"![{CREDITS[SHOWN_VIVID].shows} at five vividnesses]({FOLDER}/vividness.jpg)",
        "",
        "## Scores",
        "",
        "By `bwpipe score --guess`, at each photograph's own size. CIEDE2000 is the mean colour difference from the original,",
        "lower is better; colourfulness is that of Hasler and Süsstrunk (2003). Four photographs say little: the",
        "[model card](../models/weights/unet.md) has the figures of test sets.",
        "",
        f"| photograph | CIEDE2000: grey | {' | '.join(results)} | colourfulness: original | {' | '.join(results)} |",
        "| --- " * (3 + 2 * len(results)) + "|",
    )
    for name in CREDITS:
        first = results[next(iter(results))][name]
        differences = [first["grey"]["ciede2000"], *(each[name]["guess"]["ciede2000"] for each in results.values())]
        colourfulness = [
            first["guess"]["colourfulness_truth"],
            *(each[name]["guess"]["colourfulness"] for each in results.values()),
        ]
        yield f"| {name} | {' | '.join(f'{value:.1f}' for value in (*differences, *colourfulness))} |"


def main() -> None:
    """Render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--models", nargs="+", default=["autoencoder", "unet"])
    options = parser.parse_args()
    lines = list(render(options.docs, options.models))
    (options.docs / "gallery.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
