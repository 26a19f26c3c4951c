"""Colouring from Python and in notebooks: `bwpipe.colorize` and `bwpipe.load_network`."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from html import escape
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, Unpack, cast, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bwpipe.core.console import as_typed
from bwpipe.core.context import RunContext
from bwpipe.core.frame import Unit
from bwpipe.core.stage import Source, stages
from bwpipe.engine.result import RunResult
from bwpipe.engine.run import run_graph
from bwpipe.errors import BwpipeError, MediaError, UsageError
from bwpipe.graph.corrections import CORRECTIONS
from bwpipe.graph.document import Override
from bwpipe.graph.graph import Graph, read_graph
from bwpipe.graph.templates import template
from bwpipe.tools.preview import small

if TYPE_CHECKING:  # it imports torch
    from bwpipe.nn.network import Network

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
A = TypeVar("A", NDArray[np.uint8], NDArray[np.uint16])
SHOWN = 6
"""Number of files that a notebook shows of a result."""
_CHANNELS = (1, 3, 4)
_PNG_MODES = {"1", "L", "LA", "I;16", "P", "RGB", "RGBA"}
_CONVERTED = {
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
    "LAB": "RGB",
    "RGBX": "RGB",
    "PA": "RGBA",
    "La": "LA",
    "RGBa": "RGBA",
}


class _Options(TypedDict, total=False):
    """The keyword arguments of `colorize`."""

    model: str | Path | None
    vividness: float | None
    saturation: float | None
    hints: str | Path | None
    quality: Literal["fast", "normal", "best"] | None
    recolour: bool
    set: Mapping[str, Any] | None
    quiet: bool


class ColorizeResult(RunResult):
    """The result of colouring files, which a notebook shows with the pictures before and after."""

    def _repr_html_(self) -> str:
        """The first files before and after, as HTML with embedded JPEGs, and the summary."""
        rows = [_row(*pair) for pair in list(zip(self.inputs, self.outputs, strict=True))[:SHOWN]]
        more = len(self.outputs) - len(rows)
        rest = f"<p>and {more} more</p>" if more > 0 else ""
        summary = re.sub("`(.+?)`", r"<code>\1</code>", escape(self.summary(timings=False)))
        return f"<table>{''.join(rows)}</table>{rest}<p style='white-space: pre-line'>{summary}</p>"


@overload
def colorize(source: str | Path | Sequence[str | Path], output: str | Path, **options: Unpack[_Options]) -> ColorizeResult: ...
@overload
def colorize(source: str | Path | Image.Image, output: None = None, **options: Unpack[_Options]) -> Image.Image: ...
@overload
def colorize(source: A, output: None = None, **options: Unpack[_Options]) -> A: ...
def colorize(
    source: str | Path | Sequence[str | Path] | Image.Image | Pixels,
    output: str | Path | None = None,
    *,
    model: str | Path | None = None,
    vividness: float | None = None,
    saturation: float | None = None,
    hints: str | Path | None = None,
    quality: Literal["fast", "normal", "best"] | None = None,
    recolour: bool = False,
    set: Mapping[str, Any] | None = None,  # noqa: A002 (named like the command-line option)
    quiet: bool = True,
) -> ColorizeResult | Image.Image | Pixels:
    """Colour a picture, or files with the default graph as `bwpipe colorize` does.

    Args:
        source: With `output`: a picture, a film, a folder of them, a pattern, or a list of these. Without: the path of a
            picture, an image of Pillow, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or uint16, in grey or as
            RGB with or without alpha.
        output: The output folder.
        model: The name of a network, or a checkpoint; `unet` by default.
        vividness: From 0 (the average, safe colour) to 1 (the most likely, vivid colour); by default the network's own.
        saturation: Factor of the colours' strength, 0..4; 1 by default.
        hints: A folder of hints, dots or strokes in the right colours, each named like its photograph; with `output` only.
        quality: The resolution at which the network sees each picture; "normal" by default.
        recolour: Also replace the colours of what is in colour already.
        set: Other options to override, e.g. {"colorize.device": "cpu"}.
        quiet: Show warnings and errors only, no progress.

    Returns:
        With `output` the result of the run; a file that failed is listed there and does not raise. Without, an image of the
        same size: for an array an array (H, W, 3) or, with alpha, (H, W, 4) of the same type; else an image of Pillow, which
        has 8 bits, since Pillow has no RGB of 16 bits. To colour many pictures give a folder: each call loads the network.

    Raises:
        UsageError: An option or the input is wrong.
        MediaError: The picture can't be read.
        RunAborted: The run can't continue.
    """
    if hints is not None and output is None:
        raise UsageError("hints: they are found by the names of files, which images in memory do not have; give `output`, too")
    named = {
        "colorize.model": model,
        "colorize.vividness": vividness,
        "colorize.saturation": saturation,
        "colorize.hints": hints,
        "colorize.quality": quality,
    }
    changes = [
        *(
            Override(key, str(value) if isinstance(value, Path) else value, key.partition(".")[2])
            for key, value in named.items()
            if value is not None
        ),
        *([Override("grayscale.colour", "recolour", "recolour")] if recolour else []),
        *(Override(key, value, f"set[{key!r}]") for key, value in (set or {}).items()),
    ]

    def graph(inputs: str | Sequence[str], folder: str, **more: Any) -> Graph:
        paths = [Override("read.path", inputs, "source"), Override("write.path", folder, "output")]
        if output is not None:
            paths.append(Override("corrections", str(Path(output, CORRECTIONS)), "output"))
        return read_graph(template("pipeline.yaml"), [*paths, *changes, *(Override(*each, "source") for each in more.items())])

    if output is not None:
        if isinstance(source, Image.Image | np.ndarray):
            raise UsageError("output: an image is returned, not written; omit `output`, or give the path of a file")
        inputs = str(source) if isinstance(source, str | Path) else list(map(str, source))
        done = run_graph(graph(inputs, str(output)), quiet=quiet)
        return ColorizeResult(**{field.name: getattr(done, field.name) for field in fields(done)})
    with TemporaryDirectory(prefix="bwpipe-") as name:
        place = _as_file(source, Path(name))
        made = run_graph(graph(str(place), str(Path(name, "out")), **{"write.format": "png"}), quiet=quiet)
        if made.failed:
            raise MediaError(f"{'source' if place.parent == Path(name) else place}: {next(iter(made.failed.values()))}")
        if len(made.outputs) != 1 or made.kinds != {"picture": 1}:
            raise UsageError(f"{place} is not one picture; give an output folder to colour films and folders")
        return _from_file(made.outputs[0], source)


def load_network(model: str | Path = "unet") -> "Network":
    """Load a network with its weights, in float32, on the CPU, in evaluation mode.

    `network.guess(luma)` takes luma (B, 1, H, W) in 0..1 as a tensor, and returns chroma (B, 2, h, w), Cb and Cr of full-range
    BT.601 in -0.5..0.5, and what else it knows; `network.input_size(height, width, quality)` is the size that suits it.

    Args:
        model: The name of a network that ships with bwpipe, or the path of a checkpoint.

    Raises:
        UsageError: There is no such network, or the file is no checkpoint.
    """
    from bwpipe.core import plugins
    from bwpipe.nn.checkpoint import load, locate

    plugins.load()
    return load(locate(str(model)))[0]


def _as_file(source: Any, folder: Path) -> Path:
    """The path of a picture; an image in memory is written into a folder, without loss. Raises UsageError."""
    if isinstance(source, str | Path):
        return Path(source)
    path = folder / "image.png"
    if isinstance(source, np.ndarray):
        path.write_bytes(_encoded(source))
    elif isinstance(source, Image.Image):
        mode = source.mode if source.mode in _PNG_MODES else _CONVERTED.get(source.mode)
        if mode is None:
            raise UsageError(f"source: images of mode {source.mode!r} are not read; convert it to L, I;16 or RGB")
        same = source if mode == source.mode else source.convert(mode)
        same.save(path, compress_level=1, exif=source.getexif().tobytes())  # EXIF says how it is to be turned
    else:
        raise UsageError(f"source: expected a path, an image of Pillow or an array, not {type(source).__name__}")
    return path


def _encoded(pixels: NDArray[Any]) -> bytes:
    """An array as a PNG file. Raises UsageError."""
    import cv2

    if pixels.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"source: expected an array of uint8 or uint16, not {pixels.dtype}; scale it to one of them")
    if pixels.ndim not in (2, 3) or not pixels.size or (pixels.ndim == 3 and pixels.shape[2] not in _CHANNELS):
        raise UsageError(f"source: expected an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {pixels.shape}")
    order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.ndim == 3 and pixels.shape[2] > 1 else None
    stored = pixels if order is None else pixels[..., order]  # OpenCV stores BGR
    return cv2.imencode(".png", np.ascontiguousarray(stored), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _from_file(path: Path, like: Any) -> Image.Image | Pixels:
    """A coloured picture as the kind of image that its input was."""
    if not isinstance(like, np.ndarray):
        with Image.open(path) as image:
            image.load()
            return image.copy()
    import cv2

    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None, "was written by `write`"
    return cast(Pixels, np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]))


def _row(before: Path, after: Path) -> str:
    cells = "".join(f"<td>{_thumbnail(*each)}</td>" for each in ((before, "before"), (after, "after")))
    return f"<tr>{cells}</tr><tr><td colspan=2>{escape(as_typed(after))}</td></tr>"


def _thumbnail(path: Path, alt: str) -> str:
    """An <img> of a picture, or of a film's middle frame; a sentence if the file can't be read any more."""
    try:
        frame = next(_frames(path), None)
    except (BwpipeError, OSError) as error:
        return escape(str(error))
    if frame is None:
        return "there is no picture in it"
    data = BytesIO()
    Image.fromarray(frame).save(data, "JPEG", quality=85)
    return f'<img alt="{alt}" src="data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}">'


def _frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """A picture, or a film from its middle frame on, as RGB (h, w, 3) for display."""
    source = stages["read"](path=str(path))  # type: ignore[call-arg]
    assert isinstance(source, Source)
    try:
        source.setup(RunContext())
        for unit in source.units():
            if isinstance(unit, Unit):
                middle = (unit.media.frames or 1) // 2
                part = Unit(unit.media, start=middle, stop=middle + 1) if unit.media.has_segments else unit
                yield from (small(frame) for frame in source.read(part, 0))
    finally:
        source.close()
