"""The `grayscale` stage."""

from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from bwpipe import Count, Frame, Gather, Map, MediaError, NoEffect, RunContext, Unit, stage
from bwpipe.core.frame import Chroma, Luma, Media
from bwpipe.core.parallel import cores
from bwpipe.core.provenance import LUMA, LUMA_OF_COLOUR
from bwpipe.image.file import ImageFile
from bwpipe.image.write import GREY_MODES
from bwpipe.pixels.chroma_upsampling import upsample_chroma
from bwpipe.pixels.levels import auto_levels, denoise, full_range, stretch, tonal_range
from bwpipe.pixels.resize import fit_short_side, resize_area, resize_fast
from bwpipe.pixels.tint_detection import colour_kind
from bwpipe.pixels.ycbcr import WEIGHTS, Weights, convert_matrix
from bwpipe.video.file import VideoFile
from bwpipe.video.interlacing import first_field
from bwpipe.video.probe import RUN

A = TypeVar("A", bound=NDArray[Any])

GUIDE = 512
"""Maximum short side of the guide, in pixels."""
_FEW = 0.05
"""Share of a film's frames in colour that is not worth a warning: noise may look like it."""
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

    revision: ClassVar[int] = 5

    weights: Literal["source", "bt601", "bt709", "bt2020", "mean", "red", "green", "blue"] = "source"
    """Weights of red, green and blue in the luma when tint or colour is dropped. `source` keeps the stored luma; `red`, for
    instance, hides most stains of a yellowed picture."""
    colour: Literal["keep", "recolour"] = "keep"
    """What happens to pictures and films already in colour: `keep` keeps their chroma, `recolour` replaces it. A film is in
    colour or not as a whole: about 32 of its frames decide."""
    levels: Literal["auto", "off"] = "auto"
    """Whether to stretch a faded picture's guide to full contrast: at most by a factor of 2, constant throughout a film."""
    denoise: Literal["light", "off"] = "light"
    """Whether to reduce grain in the guide, according to the noise found."""
    restore: bool = False
    """Apply `levels` and `denoise` to the output's luma too, not only to the guide."""
    workers: NoEffect[Count] = Field(default_factory=cores)
    """Number of frames processed in parallel; by default the number of cores."""

    _run: RunContext = PrivateAttr()
    _learns: bool = PrivateAttr(default=False)

    def provenance(self, unit: Unit | None = None) -> dict[str, Any]:
        """The options, and why the luma was changed, if it was."""
        return {
            **super().provenance(unit),
            LUMA: "restore" if self.restore else None,
            LUMA_OF_COLOUR: f"weights: {self.weights}" if self.weights != "source" else None,
        }

    def recipe(self, unit: Unit | None = None) -> dict[str, Any]:
        """The options; `colour`, whose default was `recolour` until 0.1.0, only for what can be in colour."""
        recipe = super().recipe(unit)
        if unit and not _can_be_in_colour(unit.media):
            recipe["colour"] = "recolour"
        return recipe

    def revision_for(self, unit: Unit | None) -> int:
        """5 takes the levels of short films from other frames.

        4 made guides of films otherwise, 3 kept their chroma, and claims no more that luma was changed where it was not.
        """
        media = unit.media if unit else None
        if media is None or (isinstance(media, VideoFile) and _is_short(media)):
            return self.revision
        if media.kind == "film" and min(media.height, media.width) > GUIDE:
            return 4
        kept = isinstance(media, VideoFile) and media.colour == "colour" and self.colour == "keep"
        return 3 if kept or self.weights != "source" else 2

    def setup(self, run: RunContext) -> None:
        """Keep the run, for messages, and find out whether its graph learns from pictures in colour."""
        self._run = run
        self._learns = any(isinstance(each, Gather) for each in run.downstream(self))

    def apply(self, frame: Frame) -> Frame:
        """Make the guide (h, w), with a short side of at most 512, of the luma (H, W); drop or keep the chroma."""
        frame = self._without_chroma(frame)
        media = frame.unit.media
        small, levels = media.on_display(_small(frame.luma, media))
        points = auto_levels(media.tones or tonal_range(small), levels) if self.levels == "auto" else levels
        if not self.restore:
            return replace(frame, guide=_read_only(self._denoised(full_range(small, points), (0, 255))))
        luma = stretch(frame.luma, points, media.levels) if self.levels == "auto" else frame.luma
        luma = self._denoised(luma, media.levels)
        return replace(frame, luma=_read_only(luma), guide=_read_only(full_range(_small(luma, media), media.levels)))

    def _without_chroma(self, frame: Frame) -> Frame:
        """The frame without its chroma, unless real colour is to be kept. Raises MediaError."""
        media = frame.unit.media
        if media.curve is not None and (self.restore or (frame.chroma is not None and self.weights != "source")):
            raise MediaError(
                "its codes are not meant for a display, so its luma can't be changed; leave out `restore` and `weights`"
            )
        if isinstance(media, VideoFile) and media.colour != "colour" and media.coloured > _FEW:
            share = f"{media.coloured:.0%} of the frames looked at"
            self._warn(f"{share} are in colour, which is replaced as in the others; to keep it, cut them out", media)
        if frame.chroma is None:
            return frame
        kind = media.colour if isinstance(media, VideoFile) else colour_kind(frame.luma, frame.chroma)
        if kind == "toned":
            self._warn("its tint is dropped", media)
        elif kind == "colour" and self.colour == "keep":
            if not self._learns:
                self._warn("already in colour; its colours are kept (`colour: recolour` would replace them)", media)
            return frame
        elif kind == "colour":
            self._warn("already in colour; its colours are replaced", media)
        if self.weights == "source":
            return replace(frame, chroma=None, stored=None)
        luma = _weighted(frame.luma, frame.chroma, media, _WEIGHTS[self.weights])
        return replace(frame, luma=_read_only(luma), chroma=None, stored=None, notes={**frame.notes, LUMA: self.weights})

    def _warn(self, text: str, media: Media) -> None:
        """Warn of each picture, and of each film once."""
        film = isinstance(media, VideoFile)
        if not film or self._run.first(id(self), media, text):
            self._run.warn(text, media, each=film)

    def _denoised(self, luma: A, levels: tuple[int, int]) -> A:
        return denoise(luma, levels) if self.denoise == "light" else luma


def _is_short(film: VideoFile) -> bool:
    """Whether all frames of a film can be decoded to find its levels, and it has others than keyframes."""
    return not film.has_frame_files and len(film.keys) < len(film.times) <= RUN


def _can_be_in_colour(media: Media) -> bool:
    """Whether a film is in colour, or a picture has samples for colours: only its pixels say whether they are colours."""
    if isinstance(media, VideoFile):
        return media.colour == "colour"
    return not (isinstance(media, ImageFile) and media.mode in GREY_MODES)


def _weighted(luma: Luma, chroma: Chroma, media: Media, weights: Weights) -> Luma:
    """Luma with other weights; chroma may be on a smaller grid, and the lines of interlaced video keep their fields apart."""
    if chroma.shape[1:] == luma.shape:
        return convert_matrix(luma, chroma, media.levels, media.matrix, weights)
    fields = 2 if isinstance(media, VideoFile) and media.fields and min(luma.shape[0], chroma.shape[1]) > 1 else 1
    output = np.empty_like(luma)
    for first in range(fields):
        rows = luma[first::fields]
        full = upsample_chroma(chroma[:, first::fields], rows, media.levels, media.matrix, (rows.shape[0], rows.shape[1]))
        output[first::fields] = convert_matrix(rows, full, media.levels, media.matrix, weights)
    return output


def _small(luma: Luma, media: Media) -> Luma:
    """Luma on the guide's grid; of interlaced video, the first field: networks do not know combing."""
    if isinstance(media, VideoFile) and media.fields:
        luma = first_field(luma, media.fields)
    size = fit_short_side(luma.shape, GUIDE)
    return resize_fast(luma, size) if media.kind == "film" else resize_area(luma, size)


def _read_only(plane: A) -> A:
    plane.flags.writeable = False
    return plane
