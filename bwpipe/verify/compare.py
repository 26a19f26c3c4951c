"""Compares an output with its input before it gets its name."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from bwpipe.errors import MediaError
from bwpipe.film import Film
from bwpipe.film.open import open_film
from bwpipe.frame import Media
from bwpipe.picture.open import open_picture
from bwpipe.verify import Limits
from bwpipe.verify.files import compare

_ANY_SIZE = 2**62


def check_output(media: Media, path: Path, *, tick: Callable[[], None] = lambda: None) -> None:
    """Raise MediaError if something other than colour differs between a finished file and the one that it was made of.

    `tick` is called after each frame; what it raises ends the comparison.
    """
    opener = open_film if isinstance(media, Film) else open_picture
    verdict = compare(media, opener(path, PurePosixPath(path.name), max_pixels=_ANY_SIZE), Limits(), tick=tick)
    if first := next(iter(verdict.differences), None):
        more = f", and {len(verdict.differences) - 1} more" if len(verdict.differences) > 1 else ""
        raise MediaError(f"what was written of it differs in more than colour: {first}{more}; `verify: false` would keep it")
