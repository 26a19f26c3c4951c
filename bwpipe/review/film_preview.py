"""A frame of a film, coloured as in the film: drawn towards the film's memory, with the hints and the still for its shot."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bwpipe.core.first_pass import HINTED
from bwpipe.core.frame import Frame
from bwpipe.errors import MediaError
from bwpipe.memory.film_memory import FilmMemory, remember
from bwpipe.memory.hinted import pairs
from bwpipe.memory.key_frame import key_frame
from bwpipe.memory.references import with_own_colours

Colour = Callable[[Frame], Frame]


def read_memory(path: Path | None) -> FilmMemory | None:
    """The memory that a run keeps of a film; None if there is none, such as of a film in one segment, or it is damaged."""
    if path is None or not path.is_file():
        return None
    try:
        return FilmMemory.from_bytes(path.read_bytes())
    except (MediaError, OSError):
        return None  # the next run says so; the frame is then shown as the network colours it


def in_film(
    frame: Frame,
    colour: Colour,
    *,
    memory: FilmMemory | None,
    hints: NDArray[np.float32] | None,
    still: Frame | None,
) -> Frame:
    """The frame in colour, as `anchor` would leave it.

    Hints are those of this frame: what hints of other frames do along the motion is known once the film is run.

    Args:
        frame: The frame, ready for the network.
        colour: Gives a frame the network's colours and features.
        memory: That of the film; without one, or one of another network, the frame has only hints and the still to follow.
        hints: (3, h, w), as in a note `HINTED`.
        still: A frame with its colours in a note, ready for the network.
    """
    plain = colour(frame)
    hinted = None if hints is None else colour(replace(frame, notes={**frame.notes, HINTED: hints}))
    if plain.features is None:  # `anchor` does nothing, and the hints are for this frame alone
        return hinted or plain
    if memory is None or not memory.knows(plain):
        memory = remember([plain])
    own = range(frame.index, frame.index + 1)
    memory.hold_hints(pairs([plain, hinted]) if hinted else {}, {frame.index: own}, own)
    shown = None if still is None else key_frame(with_own_colours(colour(still)))
    memory.hold_stills([shown] if shown else [], [own] if shown else [])
    chroma = memory.drawn(plain)
    return plain if chroma is None else replace(plain, chroma=chroma)
