"""Render docs/gallery.md: photographs in grey, coloured by each network, and the originals.

    python -m bench.gallery [--folder docs/gallery] [--models autoencoder unet]

The photographs are those that ship with scikit-image. They are coloured with the image stages of pipeline.yaml and scored by
`bwpipe score`. The images are not kept in the repository; the page with their scores is.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from typer.testing import CliRunner

import bwpipe
from bwpipe.cli.main import app
from bwpipe.tools.samples import photographs

HEIGHT = 300
"""Height of each image on a sheet, in pixels."""
GAP = 6
VIVID = (0.0, 0.25, 0.5, 0.75, 1.0)
SHOWN_VIVID = "chelsea"

RGB = NDArray[np.uint8]


def write_photographs(reference: Path, grey: Path) -> list[str]:
    """Write each photograph in colour and in grey; returns their names."""
    names = []
    for name, rgb in photographs():
        names.append(name)
        for folder, plane in ((reference, rgb[..., ::-1]), (grey, cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))):
            folder.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(folder / f"{name}.png"), plane):
                raise OSError(f"{folder / name}.png can't be written")
    return names


def colour(grey: Path, output: Path, **options: Any) -> None:
    """Colour a folder as pipeline.yaml does."""
    stages = [
        {"use": "read", "path": str(grey)},
        {"use": "grayscale", "colour": "recolour"},
        {"use": "colorize", **options},
        {"use": "write", "path": str(output)},
    ]
    run_result = bwpipe.run({"stages": stages}, quiet=True)
    if run_result.exit_code:
        raise RuntimeError(str(run_result))


def scores(prediction: Path, reference: Path) -> dict[str, Any]:
    """The result of `bwpipe score` for each image, by file name without suffix."""
    arguments = ["score", "--guess", str(prediction), "--truth", str(reference), "--json", "-", "--quiet"]
    result = CliRunner().invoke(app, arguments)
    if result.exit_code:
        raise RuntimeError(result.output)
    return {Path(name).stem: each for name, each in json.loads(result.stdout)["pictures"].items()}


def row(paths: Sequence[Path]) -> RGB:
    """Images side by side at the same height, (HEIGHT, w, 3) BGR."""
    parts: list[RGB] = []
    for path in paths:
        image: Any = cv2.imread(str(path), cv2.IMREAD_COLOR)
        width = round(image.shape[1] * HEIGHT / image.shape[0])
        parts += [
            np.asarray(cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8),
            np.full((HEIGHT, GAP, 3), 255, np.uint8),
        ]
    return np.concatenate(parts[:-1], axis=1)


def render(folder: Path, models: Sequence[str]) -> Iterator[str]:
    """Write the sheets; yields the lines of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        names = write_photographs(work / "reference", work / "grey")
        results = {}
        for model in models:
            output = work / Path(model).stem
            colour(work / "grey", output, model=model)
            results[Path(model).stem] = scores(output, work / "reference")
        for value in VIVID:
            colour(work / "grey", work / f"vivid-{value}", model=models[-1], vividness=value)
        yield from _page(folder.name, names, results)
        columns = [work / "grey", *(work / model for model in results), work / "reference"]
        sheets = {name: [column / f"{name}.png" for column in columns] for name in names}
        sheets["vividness"] = [work / f"vivid-{value}" / f"{SHOWN_VIVID}.png" for value in VIVID]
        for name, paths in sheets.items():
            if not cv2.imwrite(str(folder / f"{name}.jpg"), row(paths), [cv2.IMWRITE_JPEG_QUALITY, 90]):
                raise OSError(f"{folder / name}.jpg can't be written")


def _page(folder: str, names: Sequence[str], results: dict[str, Any]) -> Iterator[str]:
    columns = ", ".join(["grey", *results, "original"])
    yield from (
        "# Gallery",
        "",
        "`make gallery` writes this page and the images beside it, which are not kept in the repository: scikit-image's",
        "photographs, which no network was trained on, coloured by the stages of `pipeline.yaml` with default options.",
        f"From left to right: {columns}.",
        "",
    )
    for name in names:
        yield f"- `{folder}/{name}.jpg`"
    steps = ", ".join(map(str, VIVID))
    yield from (
        "",
        "## Vividness",
        "",
        f"From the safe, average colour to the vivid, most likely one: `--set colorize.vividness=` {steps}.",
        "",
        f"- `{folder}/vividness.jpg`",
        "",
        "## Scores",
        "",
        "By `bwpipe score --guess`, at each photograph's own size. CIEDE2000 is the mean colour difference from the original,",
        "lower is better; colourfulness is that of Hasler and Süsstrunk (2003).",
        "",
        f"| photograph | CIEDE2000: grey | {' | '.join(results)} | colourfulness: original | {' | '.join(results)} |",
        "| --- " * (3 + 2 * len(results)) + "|",
    )
    for name in names:
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
    parser.add_argument("--folder", type=Path, default=Path("docs/gallery"))
    parser.add_argument("--models", nargs="+", default=["autoencoder", "unet"])
    options = parser.parse_args()
    lines = list(render(options.folder, options.models))
    options.folder.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
