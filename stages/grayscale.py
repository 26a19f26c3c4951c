"""The `grayscale` stage."""

from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar

from numpy.typing import NDArray
from pydantic import PrivateAttr

from bwpipe import Frame, Map, RunContext, stage
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
"""Pixels of the guide's short side."""
_WEIGHTS: dict[str, Weights] = {
    **WEIGHTS,
    "mean": Weights(1 / 3, 1 / 3, 1 / 3),
    "red": Weights(1, 0, 0),
    "green": Weights(0, 1, 0),
    "blue": Weights(0, 0, 1),
}


@stage("grayscale")
class Grayscale(Map):
    """Drops the tone or colour that pictures have, and makes the guide: a small, evened copy of the luma, for networks.

    The guide of an interlaced film is of one moment. The luma itself stays as it is in the file, unless `weights` or `restore`
    say otherwise.
    """

    revision: ClassVar[int] = 2

    weights: Literal["source", "bt601", "bt709", "bt2020", "mean", "red", "green", "blue"] = "source"
    """How luma is made of red, green and blue where tone or colour is dropped. `source` leaves it as it is; `red`, for
    instance, shows a yellowed picture without most of its stains."""
    colour: Literal["recolour", "keep"] = "recolour"
    """What becomes of pictures that are in real colour already: their chroma is dropped and guessed anew, or they keep it."""
    levels: Literal["auto", "off"] = "auto"
    """Whether a faded guide is brought to full contrast: contrast is at most doubled, and the same all through a film."""
    denoise: Literal["light", "off"] = "light"
    """Whether grain is lessened in the guide, as far as any is found."""
    restore: bool = False
    """Do to the luma, which is seen, what `levels` and `denoise` do to the guide."""

    _run: RunContext = PrivateAttr()

    def provenance(self) -> dict[str, Any]:
        """The options, and why the luma is another, if it is."""
        reasons = {"restore": self.restore, f"weights: {self.weights}": self.weights != "source"}
        return {**super().provenance(), LUMA: ", ".join(reason for reason, holds in reasons.items() if holds) or None}

    def setup(self, run: RunContext) -> None:
        """Remember whom to tell."""
        self._run = run

    def apply(self, frame: Frame) -> Frame:
        """Make the guide (h, w) of the luma (H, W), with a short side of at most 512; drop the chroma or keep it."""
        frame = self._in_grey(frame)
        media = frame.unit.media
        small = _small(frame.luma, media)
        points = auto_levels(media.tones or tonal_range(small), media.levels) if self.levels == "auto" else media.levels
        if not self.restore:
            return replace(frame, guide=_frozen(self._denoised(full_range(small, points), (0, 255))))
        luma = stretch(frame.luma, points, media.levels) if self.levels == "auto" else frame.luma
        luma = self._denoised(luma, media.levels)
        return replace(frame, luma=_frozen(luma), guide=_frozen(full_range(_small(luma, media), media.levels)))

    def _in_grey(self, frame: Frame) -> Frame:
        """The frame without its chroma, but for real colour that is kept."""
        if frame.chroma is None:
            return frame
        media = frame.unit.media
        kind = colour_kind(frame.luma, frame.chroma)
        if kind == "toned":
            self._run.warn("its tone is dropped", media)
        elif kind == "colour" and self.colour == "keep":
            self._run.warn("it is in colour already, and keeps it", media)
            return frame
        elif kind == "colour":
            self._run.warn("it is in colour already, and is coloured anew; `colour: keep` would leave it as it is", media)
        if self.weights == "source":
            return replace(frame, chroma=None)
        luma = convert_matrix(frame.luma, frame.chroma, media.levels, media.matrix, _WEIGHTS[self.weights])
        return replace(frame, luma=_frozen(luma), chroma=None)

    def _denoised(self, luma: A, levels: tuple[int, int]) -> A:
        return denoise(luma, levels) if self.denoise == "light" else luma


def _small(luma: Luma, media: Media) -> Luma:
    """Luma on the guide's grid; where its lines belong to two moments, of the first: networks know no combs."""
    if isinstance(media, VideoFile) and media.fields:
        luma = first_field(luma, media.fields)
    return resize_area(luma, fit_short_side(luma.shape, GUIDE))


def _frozen(plane: A) -> A:
    plane.flags.writeable = False
    return plane
