"""Measure what computing a network in int8 would save on a CPU, and what it would do to colours; see decision 32.

    python -m bench.int8 CALIBRATION VALIDATION [--model unet] [--repeat 30]

It needs NNCF (`pip install nncf`, in a virtual environment of its own). Both are photographs in colour: a folder, or a pattern
such as "photographs/*0.jpg". The network's graph is quantised after training, calibrated on what `colorize` would show it of
some hundred photographs of the first, and compared with float32 on those of the second: how much chroma differs, the scores of
both, the CPU time of a frame in one thread, medians of alternating rounds, and that of compiling.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.run_graph import medians
from bwpipe import Frame
from bwpipe.core import plugins
from bwpipe.evaluation.references import luma_of, rgb_of
from bwpipe.metrics.correlation import Correlation
from bwpipe.metrics.image_metrics import chroma_of, figures
from bwpipe.nn.checkpoint_file import describe, locate, read_arrays
from bwpipe.nn.inference import frame_planes, network_input
from bwpipe.nn.input_size import InputSizes
from bwpipe.nn.processor import processor_name
from bwpipe.nn.runtime.base import Planes
from bwpipe.nn.runtime.graphs import find_graph
from bwpipe.nn.runtime.openvino import import_openvino, with_weights
from bwpipe.pixels.chroma_upsampling import upsample_chroma
from bwpipe.pixels.resize import squash
from bwpipe.pixels.ycbcr import ycbcr_to_rgb
from bwpipe.testing import run_stage

SIZES = ((256, 256), (256, 448))
"""Heights and widths for which times are measured: a square, and a film of 16:9."""
CONFIG = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
CONVOLUTIONS = ("Convolution", "GroupConvolution")
READ_OUT = 8
"""Outputs below which a convolution belongs to the read-out, which sums up chroma, and stays in float32."""
VARIANTS: dict[str, tuple[tuple[str, ...], bool, dict[str, Any]]] = {
    "convolutions": (CONVOLUTIONS, True, {}),
    "pointwise convolutions": (CONVOLUTIONS[:1], True, {}),
    "convolutions, transformer and attention": ((*CONVOLUTIONS, "MatMul"), True, {}),
    "convolutions, no overflow fix": (CONVOLUTIONS, False, {}),
    "convolutions, slow bias correction": (CONVOLUTIONS, True, {"fast_bias_correction": False}),
}
"""Which operations are quantised, whether with the overflow fix, and further options of NNCF."""


class Photograph(NamedTuple):
    """What the network sees of a photograph (h, w), its luma (H, W), and its colours (H, W, 3)."""

    seen: Planes
    luma: NDArray[np.uint8]
    truth: NDArray[np.uint8]


def photographs(path: str, sizes: InputSizes) -> list[Photograph]:
    """Those in colour, as `colorize` shows them to the network."""
    frames: list[Frame] = [frame for frame in run_stage("read", path=path) if frame.chroma is not None]
    lumas = [luma_of(frame) for frame in frames]
    guides = run_stage("grayscale", frames, colour="recolour")
    inputs = [
        network_input(frame, *sizes.of(luma.shape[0], luma.shape[1], "normal"))
        for frame, luma in zip(guides, lumas, strict=True)
    ]
    return [Photograph(*each) for each in zip(inputs, lumas, map(rgb_of, frames), strict=True)]


def scores(chromas: list[Planes], judged: list[Photograph]) -> str:
    """Correlation, CIEDE2000 and colourfulness of predictions (2, h, w)."""
    correlation, found = Correlation(), []
    for chroma, (_, luma, truth) in zip(chromas, judged, strict=True):
        correlation.add(chroma, chroma_of(truth))
        full = upsample_chroma(frame_planes(chroma, luma.shape), luma, (0, 255), "bt601", truth.shape[:2])
        marks = figures(ycbcr_to_rgb(luma, full).astype(np.uint8, copy=False), truth)
        found.append((marks["ciede2000"], marks["colourfulness"]))
    difference, colourfulness = np.mean(found, axis=0)
    return f"correlation {correlation.value:.4f}, CIEDE2000 {difference:.3f}, colourfulness {colourfulness:.2f}"


def quantised(plain: Any, inputs: list[dict[str, Planes]], variant: str) -> Any:
    """A copy of OpenVINO's model that computes in int8 as a variant says, calibrated on inputs."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from openvino._offline_transformations import apply_moc_transformations

    kinds, fix, further = VARIANTS[variant]
    model = plain.clone()
    apply_moc_transformations(model, cf=True)  # with norms that are not yet folded into weights it can't be compiled
    layers, ignored = {"MatMul", *CONVOLUTIONS}, []
    for number, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}.{number}")  # they are called otherwise each time
        if operation.get_type_name() in layers and (operation.get_type_name() not in kinds or _is_read_out(operation)):
            ignored.append(operation.get_friendly_name())
    others = {each.get_type_name() for each in model.get_ops()} - layers - {"Add", "Relu", "Clamp", "Concat", "Pad"}
    return nncf.quantize(
        model,
        nncf.Dataset(inputs),
        subset_size=len(inputs),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=ignored, types=sorted(others), validate=False),
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE if fix else OverflowFix.DISABLE),
        **further,
    )


def _is_read_out(layer: Any) -> bool:
    """Whether a layer has only few outputs, or multiplies two results."""
    shape = layer.output(0).get_partial_shape()
    channels = shape[len(shape) - 1 if layer.get_type_name() == "MatMul" else 1]
    return bool(channels.is_dynamic) or channels.get_length() < READ_OUT


def predictor(model: Any, vividness: Planes, size: tuple[int, int] | None = None) -> tuple[Callable[[Planes], Planes], float]:
    """A function from luma (h, w) to chroma (2, h, w), compiled for a size or for all, and the CPU time that compiling took."""
    model = model.clone()
    if size:
        model.reshape({"luma": [1, 1, *size]})
    start = time.process_time()
    request = import_openvino().Core().compile_model(model, "CPU", CONFIG).create_infer_request()
    took = time.process_time() - start
    return lambda luma: np.array(request.infer({"luma": luma[None, None], "vividness": vividness})[0][0]), took


def lines(calibration: str, validation: str, name: str, repeat: int) -> Iterator[str]:
    """The report, line by line."""
    plugins.load()
    path = locate(name)
    graph = find_graph(path, describe(path), [])
    if graph is None or graph.info.sizes is None:
        raise SystemExit(f"{name} comes without a graph; name a network that has one")
    vividness = np.array(graph.info.vividness, np.float32)
    shown, judged = (photographs(each, graph.info.sizes) for each in (calibration, validation))
    inputs = [{"luma": each.seen[None, None], "vividness": vividness} for each in shown]
    plain = with_weights(import_openvino().Core().read_model(graph.operations, graph.constants), read_arrays(path))
    wanted = [*map(predictor(plain, vividness)[0], (each.seen for each in judged))]
    yield f"{name}, {processor_name()}, calibrated on {len(shown)} photographs, judged on {len(judged)}"
    yield f"float32: {scores(wanted, judged)}"
    for variant in VARIANTS:
        model = quantised(plain, inputs, variant)
        found = [*map(predictor(model, vividness)[0], (each.seen for each in judged))]
        apart = [255 * np.abs(one - other) for one, other in zip(found, wanted, strict=True)]
        means, most = [each.mean() for each in apart], np.percentile(np.concatenate([each.ravel() for each in apart]), 99)
        yield f"{variant}: {scores(found, judged)}"
        yield f"  differ by {np.mean(means):.2f} code values, p99 {most:.1f}, in the median photograph {np.median(means):.2f}"
        for size in SIZES:
            luma = squash(judged[0].seen, *size)
            ready = {"int8": predictor(model, vividness, size), "float32": predictor(plain, vividness, size)}
            spent = medians({each: partial(run, luma) for each, (run, _) in ready.items()}, repeat, time.process_time)
            times = ", ".join(f"{each} {1000 * spent[each]:.1f} ms, compiled in {ready[each][1]:.1f} s" for each in spent)
            yield f"  {size[0]} x {size[1]}: {times}, {spent['float32'] / spent['int8']:.2f} times as fast"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calibration")
    parser.add_argument("validation")
    parser.add_argument("--model", default="unet")
    parser.add_argument("--repeat", type=int, default=30)
    options = parser.parse_args()
    for line in lines(options.calibration, options.validation, options.model, options.repeat):
        print(line, flush=True)


if __name__ == "__main__":
    main()
