"""Renders docs/gallery.md: photographs in grey, as each network colours them, and as they are.

    python -m bench.gallery [--folder docs/gallery] [--models autoencoder unet]

The photographs are those that scikit-image brings along. They are coloured by `bwpipe run` with the stages of pipeline.yaml
for pictures, and measured by `bwpipe score`. The pictures are not kept in the repository, the page with their figures is.
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
"""Of each picture on a sheet, in pixels."""
GAP = 6
VIVID = (0.0, 0.25, 0.5, 0.75, 1.0)
SHOWN_VIVID = "chelsea"

RGB = NDArray[np.uint8]


def write_photographs(truth: Path, grey: Path) -> list[str]:
    """Write each photograph in colour and in grey; their names."""
    names = []
    for name, rgb in photographs():
        names.append(name)
        for folder, plane in ((truth, rgb[..., ::-1]), (grey, cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))):
            folder.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(folder / f"{name}.png"), plane):
                raise OSError(f"{folder / name}.png can't be written")
    return names


def colour(grey: Path, made: Path, **options: Any) -> None:
    """Colour a folder as pipeline.yaml does."""
    stages = [
        {"use": "read", "path": str(grey)},
        {"use": "grayscale"},
        {"use": "colorize", **options},
        {"use": "write", "path": str(made)},
    ]
    outcome = bwpipe.run({"stages": stages}, quiet=True)
    if outcome.exit_code:
        raise RuntimeError(str(outcome))


def measured(guess: Path, truth: Path) -> dict[str, Any]:
    """What `bwpipe score` finds for each picture, by its name without ending."""
    result = CliRunner().invoke(app, ["score", "--guess", str(guess), "--truth", str(truth), "--json", "-", "--quiet"])
    if result.exit_code:
        raise RuntimeError(result.output)
    return {Path(name).stem: each for name, each in json.loads(result.stdout)["pictures"].items()}


def row(paths: Sequence[Path]) -> RGB:
    """Pictures side by side, at one height, (HEIGHT, w, 3) BGR."""
    parts: list[RGB] = []
    for path in paths:
        picture: Any = cv2.imread(str(path), cv2.IMREAD_COLOR)
        width = round(picture.shape[1] * HEIGHT / picture.shape[0])
        parts += [
            np.asarray(cv2.resize(picture, (width, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8),
            np.full((HEIGHT, GAP, 3), 255, np.uint8),
        ]
    return np.concatenate(parts[:-1], axis=1)


def render(folder: Path, models: Sequence[str]) -> Iterator[str]:
    """Write the sheets; the lines of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        names = write_photographs(work / "truth", work / "grey")
        found = {}
        for model in models:
            made = work / Path(model).stem
            colour(work / "grey", made, model=model)
            found[Path(model).stem] = measured(made, work / "truth")
        for value in VIVID:
            colour(work / "grey", work / f"vivid-{value}", model=models[-1], vividness=value)
        yield from _page(folder.name, names, found)
        columns = [work / "grey", *(work / model for model in found), work / "truth"]
        sheets = {name: [column / f"{name}.png" for column in columns] for name in names}
        sheets["vividness"] = [work / f"vivid-{value}" / f"{SHOWN_VIVID}.png" for value in VIVID]
        for name, paths in sheets.items():
            if not cv2.imwrite(str(folder / f"{name}.jpg"), row(paths), [cv2.IMWRITE_JPEG_QUALITY, 90]):
                raise OSError(f"{folder / name}.jpg can't be written")


def _page(folder: str, names: Sequence[str], found: dict[str, Any]) -> Iterator[str]:
    columns = ", ".join(["grey", *found, "truth"])
    yield from (
        "# Gallery",
        "",
        "`make gallery` writes this page and the pictures beside it, which are not kept in the repository: scikit-image's",
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
        f"From the safe average colour to the lively likely one: `--set colorize.vividness=` {steps}.",
        "",
        f"- `{folder}/vividness.jpg`",
        "",
        "## Figures",
        "",
        "By `bwpipe score --guess`, at each photograph's own size. CIEDE2000 is the mean colour difference to the truth, lower",
        "is better; colourfulness is after Hasler and Süsstrunk (2003).",
        "",
        f"| photograph | CIEDE2000: grey | {' | '.join(found)} | colourfulness: truth | {' | '.join(found)} |",
        "| --- " * (3 + 2 * len(found)) + "|",
    )
    for name in names:
        first = found[next(iter(found))][name]
        away = [first["grey"]["ciede2000"], *(each[name]["guess"]["ciede2000"] for each in found.values())]
        lively = [
            first["guess"]["colourfulness_truth"],
            *(each[name]["guess"]["colourfulness"] for each in found.values()),
        ]
        yield f"| {name} | {' | '.join(f'{value:.1f}' for value in (*away, *lively))} |"


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
