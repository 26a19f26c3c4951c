"""The `grayscale` stage."""

from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar

from numpy.typing import NDArray
from pydantic import PrivateAttr

from bwpipe import Frame, Map, RunContext, Unit, stage
from bwpipe.core.frame import Luma, Media
from bwpipe.core.provenance import LUMA
from bwpipe.pixels.levels import auto_levels, denoise, full_range, stretch, tonal_range
from bwpipe.pixels.resize import fit_short_side, resize_area
from bwpipe.pixels.tint_detection import colour_kind
from bwpipe.pixels.ycbcr import WEIGHTS, Weights, convert_matrix
from bwpipe.video.file import VideoFile
from bwpipe.video.interlacing import first_field

A = TypeVar("A", bound=NDArray[Any])

GUIDE = 512
"""Maximum short side of the guide, in pixels."""
_WEIGHTS: dict[str, Weights] = {
    **WEIGHTS,
    "mean": Weights(1 / 3, 1 / 3, 1 / 3),
    "red": Weights(1, 0, 0),
    "green": Weights(0, 1, 0),
    "blue": Weights(0, 0, 1),
}


@stage("grayscale")
class Grayscale(Map):
    """Drops any tint or colour, and makes the guide: a small copy of the luma with adjusted levels, the input for networks.

    The guide of an interlaced film shows the first field only. The luma itself stays as stored, unless `weights` or `restore`
    change it.
    """

    revision: ClassVar[int] = 2

    weights: Literal["source", "bt601", "bt709", "bt2020", "mean", "red", "green", "blue"] = "source"
    """Weights of red, green and blue in the luma when tint or colour is dropped. `source` keeps the stored luma; `red`, for
    instance, hides most stains of a yellowed picture."""
    colour: Literal["recolour", "keep"] = "recolour"
    """What happens to pictures already in colour: `recolour` replaces their chroma, `keep` keeps it."""
    levels: Literal["auto", "off"] = "auto"
    """Whether to stretch a faded picture's guide to full contrast: at most by a factor of 2, constant throughout a film."""
    denoise: Literal["light", "off"] = "light"
    """Whether to reduce grain in the guide, according to the noise found."""
    restore: bool = False
    """Apply `levels` and `denoise` to the output's luma too, not only to the guide."""

    _run: RunContext = PrivateAttr()

    def provenance(self, unit: Unit | None = None) -> dict[str, Any]:
        """The options, and why the luma was changed, if it was."""
        reasons = {"restore": self.restore, f"weights: {self.weights}": self.weights != "source"}
        return {**super().provenance(unit), LUMA: ", ".join(reason for reason, applies in reasons.items() if applies) or None}

    def setup(self, run: RunContext) -> None:
        """Keep the run, for messages."""
        self._run = run

    def apply(self, frame: Frame) -> Frame:
        """Make the guide (h, w), with a short side of at most 512, of the luma (H, W); drop or keep the chroma."""
        frame = self._without_chroma(frame)
        media = frame.unit.media
        small = _small(frame.luma, media)
        points = auto_levels(media.tones or tonal_range(small), media.levels) if self.levels == "auto" else media.levels
        if not self.restore:
            return replace(frame, guide=_read_only(self._denoised(full_range(small, points), (0, 255))))
        luma = stretch(frame.luma, points, media.levels) if self.levels == "auto" else frame.luma
        luma = self._denoised(luma, media.levels)
        return replace(frame, luma=_read_only(luma), guide=_read_only(full_range(_small(luma, media), media.levels)))

    def _without_chroma(self, frame: Frame) -> Frame:
        """The frame without its chroma, unless real colour is to be kept."""
        if frame.chroma is None:
            return frame
        media = frame.unit.media
        kind = colour_kind(frame.luma, frame.chroma)
        if kind == "toned":
            self._run.warn("its tint is dropped", media)
        elif kind == "colour" and self.colour == "keep":
            self._run.warn("already in colour; its colours are kept", media)
            return frame
        elif kind == "colour":
            self._run.warn("already in colour; its colours are replaced (`colour: keep` would keep them)", media)
        if self.weights == "source":
            return replace(frame, chroma=None)
        luma = convert_matrix(frame.luma, frame.chroma, media.levels, media.matrix, _WEIGHTS[self.weights])
        return replace(frame, luma=_read_only(luma), chroma=None)

    def _denoised(self, luma: A, levels: tuple[int, int]) -> A:
        return denoise(luma, levels) if self.denoise == "light" else luma


def _small(luma: Luma, media: Media) -> Luma:
    """Luma on the guide's grid; of interlaced video, the first field: networks do not know combing."""
    if isinstance(media, VideoFile) and media.fields:
        luma = first_field(luma, media.fields)
    return resize_area(luma, fit_short_side(luma.shape, GUIDE))


def _read_only(plane: A) -> A:
    plane.flags.writeable = False
    return plane
