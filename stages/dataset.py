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
from bwpipe.data.dataset import Dataset, Pair, checks_of, split_validation
from bwpipe.data.summary import summary

_TOO_FEW = "colour images from a single file are not enough for training and validation; add more"
_NO_WEIGHT = "dataset.weights: all training images have weight 0; set a weight above 0"
_ONE_PAIR_EACH = {"read", "grayscale", "pairs"}
"""Stages that make at most one pair of a file."""


@stage("dataset")
class Gathered(Gather):
    """Caches all pairs on disk and sets some aside for validation; a second run on the same photographs reads none of them."""

    split: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Approximate share of the files used for validation only. Each file's name and the seed alone decide on it, so that adding
    files does not move existing ones."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Random seed of the split."""
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field({})
    """How often photographs are used per epoch, by folder below `read.path`, such as `people: 3` or `people/old: 0.5`, or by
    pattern, such as `people/faces-*: 2`; if several match, the longest applies. All others are used once. Photographs of
    weight 0 are never trained on, only validated on if the split sets them aside."""
    cache: NoEffect[Path] = Path("build/dataset")
    """Folder for the cached pairs, relative to the current folder."""

    _run: RunContext = PrivateAttr()
    _key: CacheKey | None = PrivateAttr(None)

    def setup(self, run: RunContext) -> None:
        """Keep the run, for messages."""
        self._run = run

    def ready(self, units: Mapping[Unit, Fingerprint | None], recipe: Sequence[Mapping[str, Any]]) -> Dataset | None:
        """The dataset, if an earlier run cached its pairs. Raises UsageError."""
        self._check_weights(units)
        *upstream, own = recipe
        self._key = CacheKey(
            units, [*upstream, {key: own[key] for key in ("stage", "revision")}]
        )  # no option here affects the pairs
        cache = Cache(self.cache)
        if cached := cache.find(self._key):
            return self._dataset(cached, self._key)
        self._check_count(units, upstream)
        if cache.path(self._key).exists():
            self._run.warn(f"{cache.path(self._key)} is damaged; the dataset is rebuilt")
        return None

    def gather(self, pairs: Iterator[Pair]) -> Dataset:
        """Cache the pairs in order of arrival. Raises UsageError if there are too few to split; RunAborted."""
        if self._key is None:  # run alone: the source of the pairs is unknown, so they could never be found again
            with TemporaryDirectory() as folder:
                no_key = CacheKey({}, [])
                return self._dataset(Cache(Path(folder)).fill(no_key, pairs, self._run).in_memory(), no_key)
        cache = Cache(self.cache)
        data = self._dataset(cache.fill(self._key, pairs, self._run), self._key)
        if others := cache.others(self._key):
            self._run.note(
                f"dataset: {self.cache} also holds {len(others)} from other images or options; remove those you no longer need"
            )
        return data

    def _check_weights(self, units: Iterable[Unit]) -> None:
        names = [unit.name for unit in units]
        folders = {str(folder) for name in names for folder in name.parents} - {"."}
        for given in self.weights:
            if not any(map(_matcher(given), map(str, names))):
                suggestion = hint(given, sorted(folders)) if folders else "all images are directly in the folder being read"
                raise UsageError(f"dataset.weights: no image matches the folder or pattern {given!r}; {suggestion}")

    def _check_count(self, units: Iterable[Unit], upstream: Sequence[Mapping[str, Any]]) -> None:
        """Refuse what is too little even if all of it can be used, before anything is read. Raises UsageError."""
        names = list(dict.fromkeys(str(unit.name) for unit in units))
        if len(names) < 2:
            raise UsageError(_TOO_FEW)
        repeats = np.ceil(self.weigh(names))
        if not repeats.any():
            raise UsageError(_NO_WEIGHT)
        if not {each["stage"] for each in upstream} <= _ONE_PAIR_EACH:
            return
        validation = split_validation(names, self.split, self.seed)
        count = sum(repeat for name, repeat in zip(names, repeats.tolist(), strict=True) if name not in validation)
        for each in checks_of(self._run, self, between=0) if count else ():
            each.expect_images(int(max(count, repeats.max())))  # one file is always trained on, possibly one of `validation`

    def weigh(self, names: Iterable[str]) -> NDArray[np.float32]:
        """How often each image is used per epoch."""
        ranked = [(_matcher(given), self.weights[given]) for given in sorted(self.weights, key=len, reverse=True)]
        return np.array([next((weight for matches, weight in ranked if matches(name)), 1) for name in names], np.float32)

    def _dataset(self, cached: CachedPairs, key: CacheKey) -> Dataset:
        """The dataset of cached pairs. Reports exclusions and failures of files again that were not read this time."""
        info = cached.info
        for unit in key.units:
            if why := info.left_out.get(str(unit.name)):
                self._run.exclude(unit.media, why)
            if error := info.failed.get(str(unit.name)):
                self._run.fail(unit, MediaError(error))
        validation = split_validation(info.names, self.split, self.seed)
        held_out = np.array([name in validation for name in info.names])
        complete = np.array([name not in info.failed for name in info.names])  # a video may have failed after some frames
        data = Dataset(
            grey=cached.grey,
            colour=cached.colour,
            training=np.flatnonzero(complete & ~held_out),
            validation=np.flatnonzero(complete & held_out),
            names=info.names,
            weights=self.weigh(info.names),
            digest=blake2b(info.digest.encode() + held_out.tobytes(), digest_size=16).hexdigest(),
            folder=cached.folder,
            left_out=dict(Counter(info.left_out.values())),
            root=next((unit.path.parents[len(unit.name.parts) - 1] for unit in key.units), None),
        )
        if not (len(data.training) and len(data.validation)):
            raise UsageError(_TOO_FEW)
        if not data.weights[data.training].any():
            raise UsageError(_NO_WEIGHT)
        for line in summary(data, info.colourfulness, len(info.failed)):
            self._run.note(f"dataset: {line}")
        return data


def _matcher(given: str) -> Callable[[str], bool]:
    """A fast predicate: whether an image's name is in a folder or matches a pattern."""
    folder, pattern = f"{PurePosixPath(given)}/", re.compile(translate(given))
    return lambda name: name.startswith(folder) or pattern.match(name) is not None
