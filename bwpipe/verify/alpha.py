"""Compares the alpha planes of two videos."""

import av
import numpy as np
from av.codec.codec import Codec
from av.error import FFmpegError
from av.filter import Graph
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from bwpipe.errors import MediaError
from bwpipe.verify.plain_reading import Survey, decoded
from bwpipe.verify.verdict import Limits, Verdict
from bwpipe.video.file import VideoFile

_LOSSY_IN_COLOUR_ONLY = {"prores"}
"""Codecs that store alpha without loss, whatever they do to colour."""


def compare_alpha(
    before: VideoFile,
    after: VideoFile,
    surveys: tuple[Survey, Survey],
    verdict: Verdict,
    *,
    limits: Limits,
    count: int | None,
) -> None:
    """Compare the alpha of all frames, or of the first `count`, if the input has any. Raises MediaError."""
    if not surveys[0].alpha:
        return
    if not surveys[1].alpha:
        verdict.lose("its alpha channel is lost", "alpha")
        return
    codec = Codec(after.codec, "r")
    lossless = after.codec in _LOSSY_IN_COLOUR_ONLY or (codec.lossless and not codec.lossy)
    frames = zip(decoded(before, count), decoded(after, count), strict=False)  # their number is compared elsewhere
    differing, first, psnr = 0, 0, float("inf")
    for number, pair in enumerate(frames):
        (was, depth), (now, other) = map(_alpha, pair)
        if was.shape != now.shape:
            verdict.differences.append(f"the size of its alpha is {now.shape[::-1]} instead of {was.shape[::-1]}")
            return
        difference = np.abs(was / ((1 << depth) - 1) - now / ((1 << other) - 1))
        coarse = 0 if depth == other else 1.01 / ((1 << min(depth, other)) - 1)
        squared = float((difference**2).mean())
        quality = float("inf") if not squared else float(-10 * np.log10(squared))
        psnr = min(psnr, quality)
        if difference.max() > coarse if lossless else quality < limits.psnr:
            first = first if differing else number
            differing += 1
    if differing:
        worst = "" if lossless else f" by a PSNR below {limits.psnr:g} dB, at worst {psnr:.2f} dB"
        verdict.lose(f"the alpha of {differing} frames differs{worst}, first in frame {first}", "alpha")


def _alpha(frame: VideoFrame) -> tuple[NDArray[np.float64], int]:
    """The alpha plane (H, W) of a frame, and its bits per sample. Raises MediaError."""
    if not any(component.is_alpha for component in frame.format.components):
        return np.full((frame.height, frame.width), 255.0), 8  # a frame without alpha among others that have it is opaque
    graph = Graph()
    try:
        source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
        extract, sink = graph.add("alphaextract"), graph.add("buffersink")
        source.link_to(extract)
        extract.link_to(sink)
        graph.configure()
        graph.push(frame)
        plane = graph.pull()
    except FFmpegError as error:
        raise MediaError(f"its alpha in {frame.format.name} can't be compared") from error
    assert isinstance(plane, VideoFrame)
    depth = av.VideoFormat(plane.format.name).components[0].bits
    memory, line = plane.planes[0], plane.planes[0].line_size
    kind = np.dtype(np.uint8 if depth == 8 else ">u2" if plane.format.name.endswith("be") else "<u2")
    rows = np.frombuffer(memoryview(memory), np.uint8).reshape(plane.height, line)[:, : plane.width * kind.itemsize]
    return np.ascontiguousarray(rows).view(kind).astype(np.float64), depth
