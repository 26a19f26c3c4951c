"""The `dataset` stage."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import translate
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from bwpipe import Gather, MediaError, NoEffect, RunContext, Unit, UsageError, stage
from bwpipe.core.fingerprint import Fingerprint
from bwpipe.core.registry import hint
from bwpipe.data.cache import Cache, CachedPairs, CacheKey
from bwpipe.data.dataset import Dataset, Pair, split_validation
from bwpipe.data.summary import summary


@stage("dataset")
class Gathered(Gather):
    """Keeps all pairs as files, and sets some aside to validate on; a second run with the same pictures reads none of them."""

    split: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """About this share of the files is only validated on. Each file's name and the seed decide on it, so that more files move
    none of those there are."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Another seed sets other files aside."""
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field({})
    """How often the pictures of a folder below `read.path` are shown in an epoch, such as `people: 3` or `people/old: 0.5`, or
    those whose names match a pattern, such as `people/faces-*: 2`; where several fit, the longest counts. All others are shown
    once. Those of weight 0 are only validated on, with the share that is set aside."""
    cache: NoEffect[Path] = Path("build/dataset")
    """The folder that keeps the pairs; from the current folder."""

    _run: RunContext = PrivateAttr()
    _wish: CacheKey | None = PrivateAttr(None)

    def setup(self, run: RunContext) -> None:
        """Remember whom to tell."""
        self._run = run

    def ready(self, units: Mapping[Unit, Fingerprint | None], recipe: Sequence[Mapping[str, Any]]) -> Dataset | None:
        """The dataset, if an earlier run kept its pairs. Raises UsageError."""
        self._check_weights(units)
        *upstream, own = recipe
        self._wish = CacheKey(
            units, [*upstream, {key: own[key] for key in ("stage", "revision")}]
        )  # no option here changes pairs
        cache = Cache(self.cache)
        if kept := cache.find(self._wish):
            return self._dataset(kept, self._wish)
        if cache.place(self._wish).exists():
            self._run.warn(f"{cache.place(self._wish)} is damaged, so the dataset is made anew")
        return None

    def gather(self, pairs: Iterator[Pair]) -> Dataset:
        """Keep the pairs in the order they come. Raises UsageError where there are too few to split; RunAborted."""
        if self._wish is None:  # run alone: nobody says what the pairs are made of, so they could never be found again
            with TemporaryDirectory() as folder:
                nothing = CacheKey({}, [])
                return self._dataset(Cache(Path(folder)).fill(nothing, pairs, self._run).loaded(), nothing)
        cache = Cache(self.cache)
        data = self._dataset(cache.fill(self._wish, pairs, self._run), self._wish)
        if others := cache.others(self._wish):
            self._run.note(f"dataset: {self.cache} holds {len(others)} more, of other pictures or options: remove what is old")
        return data

    def _check_weights(self, units: Iterable[Unit]) -> None:
        names = [unit.name for unit in units]
        folders = {str(folder) for name in names for folder in name.parents} - {"."}
        for given in self.weights:
            if not any(map(_fitting(given), map(str, names))):
                known = hint(given, sorted(folders)) if folders else "all pictures lie in the one that is read"
                raise UsageError(f"dataset.weights: no picture is in a folder or has a name like {given!r}; {known}")

    def _weigh(self, names: Iterable[str]) -> NDArray[np.float32]:
        """How often each picture is shown in an epoch."""
        ranked = [(_fitting(given), self.weights[given]) for given in sorted(self.weights, key=len, reverse=True)]
        return np.array([next((weight for fits, weight in ranked if fits(name)), 1) for name in names], np.float32)

    def _dataset(self, kept: CachedPairs, wish: CacheKey) -> Dataset:
        """The pairs with what is to be done with them. What came of files that were not read this time is told again."""
        story = kept.story
        for unit in wish.units:
            if why := story.left_out.get(str(unit.name)):
                self._run.exclude(unit.media, why)
            if error := story.failed.get(str(unit.name)):
                self._run.fail(unit, MediaError(error))
        chosen = split_validation(story.names, self.split, self.seed)
        aside = np.array([name in chosen for name in story.names])
        whole = np.array([name not in story.failed for name in story.names])  # a film may have failed after some frames
        data = Dataset(
            grey=kept.grey,
            colour=kept.colour,
            training=np.flatnonzero(whole & ~aside),
            validation=np.flatnonzero(whole & aside),
            names=story.names,
            weights=self._weigh(story.names),
            digest=blake2b(story.digest.encode() + aside.tobytes(), digest_size=16).hexdigest(),
            folder=kept.folder,
            left_out=dict(Counter(story.left_out.values())),
            root=next((unit.path.parents[len(unit.name.parts) - 1] for unit in wish.units), None),
        )
        if not (len(data.training) and len(data.validation)):
            raise UsageError("colour pictures from a single file are too few to train and to validate on; add some")
        if not data.weights[data.training].any():
            raise UsageError("dataset.weights: no picture is left to train on, since all have weight 0")
        for line in summary(data, story.colourfulness, len(story.failed)):
            self._run.note(f"dataset: {line}")
        return data


def _fitting(given: str) -> Callable[[str], bool]:
    """Tells of a picture's name whether it is in a folder, or matches a pattern; quickly, for there are many."""
    folder, pattern = f"{PurePosixPath(given)}/", re.compile(translate(given))
    return lambda name: name.startswith(folder) or pattern.match(name) is not None
