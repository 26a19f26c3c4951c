"""Which files are trained on, and which are validated on."""

from collections.abc import Iterable
from hashlib import blake2b


def set_aside(names: Iterable[str], share: float, seed: int) -> set[str]:
    """Choose about this share, in 0..1, of some names.

    A hash of the name and the seed decides on each by itself, so that a name more or less moves no other one. Of two names or
    more at least one is chosen and one is not.
    """
    chances = {name: _chance(name, seed) for name in names}
    ranked = sorted(chances, key=chances.__getitem__)
    count = sum(chance < share for chance in chances.values())
    return set(ranked[: min(max(count, 1), len(ranked) - 1)])


def _chance(name: str, seed: int) -> float:
    """A number in 0..1 that follows from the name and the seed and otherwise looks like chance."""
    digest = blake2b(f"{seed}/{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
