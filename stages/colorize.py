"""The `colorize` stage."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from bwpipe import BatchMap, Count, Frame, NoEffect, RunContext, Unit, stage
from bwpipe.core.fingerprint import cached_digest
from bwpipe.core.first_pass import HINTED, HOLDS_HINTS
from bwpipe.core.frame import Media, Motion
from bwpipe.core.ports import ShotFinder
from bwpipe.core.provenance import KEPT, NETWORK
from bwpipe.core.segments import frame_range
from bwpipe.core.stage import AddedLater, FilmsOnly, Needs, Sink, Stage
from bwpipe.errors import UsageError
from bwpipe.memory.hint_spreading import spread
from bwpipe.memory.hints import Hints, resized
from bwpipe.motion.optical_flow import LONGEST_GAP
from bwpipe.nn.checkpoint_file import describe, locate
from bwpipe.nn.inference import average_views, frame_planes, network_input
from bwpipe.nn.input_size import Quality, check_quality
from bwpipe.nn.processor import cores, may_have_accelerator
from bwpipe.nn.runtime.base import Prediction, Runtime
from bwpipe.nn.runtime.blend import blended
from bwpipe.nn.runtime.choose import Engine, choose_engine, open_runtime
from bwpipe.nn.runtime.openvino import openvino_version
from bwpipe.pixels.orientation import stored, upright

Sizes: TypeAlias = tuple[tuple[int, int], ...]
"""The (height, width) of a network's input, and of its further views."""
FILLED = "chroma of every frame"
"""What a stage provides that fills the gaps between the frames that the network saw."""
OPENVINO_BATCH, CPU_BATCH, GPU_BATCH = 1, 4, 16
"""Default batch sizes. OpenVINO computes frames one by one. For a frame of 256 x 256 in bfloat16, `unet` took torch 19 ms of a
core in batches of 4, 21 in batches of 2, 22 in batches of 8. On a GPU nothing was measured."""


def default_batch() -> int:
    """The batch size that fits what computes by default on this machine."""
    if may_have_accelerator():
        from bwpipe.nn.device import find_device

        if find_device("auto").type != "cpu":
            return GPU_BATCH
    return OPENVINO_BATCH if openvino_version() else CPU_BATCH


@stage("colorize")
class Colorize(BatchMap):
    """Predicts the chroma of every frame that has none, with a network whose input is the frame's guide.

    On a CPU each worker uses one thread, which is faster than one worker with all threads.
    """

    revision: ClassVar[int] = 3
    provides: ClassVar[frozenset[str]] = frozenset({"features"})
    correctable: ClassVar[frozenset[str]] = frozenset({"vividness", "saturation", "model", "quality"})
    correction_folders: ClassVar[Mapping[str, str]] = {"hints": "hints"}

    model: NoEffect[str | Annotated[list[str], Field(min_length=1)]] = "unet"  # the recipe has the hashes of the weights
    """The name of a network that ships with bwpipe, or the path of a checkpoint. With a list, a blend, all of them predict, and
    their chroma is averaged."""
    shares: Annotated[list[Annotated[float, Field(gt=0)]] | None, AddedLater(without=None)] = None
    """Of a blend, the weight of each network, such as `[0.7, 0.3]`; by default they are equal."""
    blend: Annotated[Literal["mean", "confidence"], AddedLater(without="mean")] = "mean"
    """How a blend weights its networks: `mean`, by `shares` alone, or `confidence`, at each place also by how sure each is."""
    vividness: Annotated[float, Field(ge=0, le=1)] | None = None
    """From 0 (the average, safe colour) to 1 (the most likely, vivid colour); by default the network's own setting."""
    saturation: Annotated[float, Field(ge=0, le=4), AddedLater(without=1.0)] = 1.0
    """Factor applied to the predicted chroma: 0 is grey; colours beyond the gamut are limited when the picture is written."""
    quality: Quality = "normal"
    """How closely the network looks (`fast`, `normal`, `best`), if it supports several: at a higher resolution, or several
    times, which is slower."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the network; `auto` is float32 with OpenVINO and otherwise 16 bits on GPUs and on CPUs with instructions for
    bfloat16 (`avx512_bf16`, `amx_bf16`)."""
    runtime: Literal["auto", "openvino", "torch"] = "auto"
    """What computes the network: `openvino`, on CPUs only and about twice as fast there in the same precision, or
    `torch`, on any device. `auto` is OpenVINO on a CPU, if it is installed, and torch elsewhere; an output folder goes on with
    what it began with."""
    every: FilmsOnly[Annotated[int, Field(ge=1, le=LONGEST_GAP)] | Literal["auto"]] = "auto"
    """Run the network only on every nth frame of each shot; `steady` propagates chroma to the frames in between along the
    optical flow. `auto` runs it where too little of a frame can be propagated, and 8 frames later at the latest; it is 1 where
    no stage below propagates chroma."""
    hints: NoEffect[str | None] = None  # no effect by itself: the recipe has the hash of a photograph's hints
    """A folder of hints: transparent PNG files with strokes or dots, or points in YAML or JSON
    (`points: [{x: 120, y: 80, colour: "#a03020"}]`, in pixels; `tint: "#8a7a60"` for the mean colour), named like the
    photograph, or for a frame of a film by its number: `reel.mp4/000123.png`; `anchor` takes these through the frame's shot.
    Only their hue and saturation count, and grey says that a thing is neutral. Networks that take hints are given them; with
    others they spread over what is alike, and less so over what is farther away."""
    device: NoEffect[str | Annotated[list[str], Field(min_length=1)]] = "auto"
    """Device to compute on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, or a list of devices that are used in turn."""
    batch: NoEffect[Count] = Field(default_factory=default_batch)
    """Frames per batch; by default 16 on a machine with a GPU, otherwise 1 where OpenVINO is installed, and 4 where not."""
    workers: NoEffect[Count] = Field(default_factory=cores)
    """Number of batches processed in parallel; by default the number of cores."""

    _filled: bool = PrivateAttr(default=False)
    _run: RunContext = PrivateAttr()
    _runtimes: list[Runtime] = PrivateAttr(default_factory=list)
    _owned: list[Runtime] = PrivateAttr(default_factory=list)
    _resolved: dict[str, Any] = PrivateAttr(default_factory=dict)
    _hints: Hints | None = PrivateAttr(default=None)
    _held: bool = PrivateAttr(default=False)
    _finder: ShotFinder | None = PrivateAttr(default=None)
    _with_features: bool = PrivateAttr(default=False)
    _facts: Mapping[str, str | int | float | bool] = PrivateAttr(default_factory=dict)

    @property
    def needs(self) -> Needs:
        """If the network is not to see every frame: shot boundaries from above, and a stage below that fills the gaps."""
        return Needs() if self._every == 1 else Needs(frozenset({"motion"}), frozenset({FILLED}))

    def placed(self, above: Sequence[Stage], below: Sequence[Sequence[Stage]]) -> None:
        """Find out whether the gaps that `every: auto` leaves are filled, whichever way a frame goes on."""
        moved = any("motion" in stage.provides for stage in above)
        self._filled = moved and bool(below) and all(any(FILLED in stage.provides for stage in path) for path in below)
        self._held = any(HOLDS_HINTS in stage.provides for path in below for stage in path)

    def shots_by(self, finder: ShotFinder) -> None:
        """Take what finds the shots that hints concern."""
        self._finder = finder

    def recall(self, facts: Mapping[str, str | int | float | bool]) -> None:
        """Take over what computed in earlier runs into the same folder."""
        self._facts = facts

    def setup(self, run: RunContext) -> None:
        """Make the network ready on each device. Raises UsageError."""
        self._run = run
        if self.shares is not None and len(self.shares) != len(self._paths):
            raise UsageError(
                f"colorize.shares: there are {len(self.shares)} for {len(self._paths)} networks; give one for each"
            )
        digest = self._digest
        self._facts = run.facts
        engine = self._engine(digest)
        threads = min(self.workers, cores(), run.frames or self.workers)  # each takes a tenth of a second to make ready
        if self.runtime == "auto":
            run.facts[_runtime_fact(digest)] = _with_version(engine)
        for path in self._paths:
            runtime, made = run.shared(
                (path, engine, *self._devices, self.precision),
                partial(
                    open_runtime,
                    path,
                    engine,
                    self._devices,
                    self.precision,
                    threads=threads,
                    resolve=lambda kind, find: run.remember(f"precision of {digest} on {kind}", find),
                    warn=run.warn,
                    work=[each.folder for each in run.downstream(self) if isinstance(each, Sink)],
                ),
            )
            self._runtimes.append(runtime)
            self._owned.extend([runtime] if made else [])
            check_quality(runtime, self.quality, "colorize")
        self._with_features = any("features" in stage.needs.above for stage in run.downstream(self))
        resolved = [{**runtime.resolved, NETWORK: runtime.registered} for runtime in self._runtimes]
        self._resolved = {key: _joined(each[key] for each in resolved) for key in resolved[0]}

    def recipe(self, unit: Unit | None = None) -> dict[str, Any]:
        """The options, what `every: auto` comes to, hashes of weights and hints, and OpenVINO's version if it computes."""
        digest = self._digest
        engine = self._engine(digest)
        recipe = {**super().recipe(unit), "weights": digest, "runtime": _with_version(engine)}
        if "every" in recipe:
            recipe["every"] = self._every
        if engine == "torch":  # as before there was the option
            del recipe["runtime"]
        hints = self._hints_within(unit) if unit else None
        return {**recipe, "hints": hints} if hints else recipe

    def hinted(self, unit: Unit) -> dict[int, str]:
        """The frames of a film that have hints, with hashes of these. Raises UsageError."""
        found = self._found_hints()
        start, stop = frame_range(unit)
        frames = found.frames(unit.media) if found else {}
        return {
            at: found.digest(unit.media, at) or "" for at in frames if found and start <= at and (stop is None or at < stop)
        }

    def hints_of(self, media: Media, index: int, size: tuple[int, int]) -> NDArray[np.float32]:
        """The hints for a frame of a film. Raises MediaError."""
        found = self._found_hints()
        read = found.read(media, size, index) if found else None
        return np.zeros((3, *size), np.float32) if read is None else read

    def _hints_within(self, unit: Unit) -> str | dict[str, str] | None:
        """The hash of a photograph's hints, or those of a film's frames in shots that have frames of the unit."""
        found = self._found_hints()
        if found is None or unit.media.kind == "picture":
            return found.digest(unit.media) if found else None
        start, stop = frame_range(unit)
        within = {}
        for at in found.frames(unit.media):
            shot = self._finder.around(unit.media, at) if self._finder else range(start, stop or start)
            if shot.start < (start if stop is None else stop) and start < shot.stop:
                within[str(at)] = found.digest(unit.media, at) or ""
        return within

    def unmatched(self, names: Mapping[PurePosixPath, str]) -> Iterator[str]:
        """The hints that are for none of these inputs. Raises UsageError."""
        if found := self._found_hints():
            yield from found.unmatched(names)

    def _found_hints(self) -> Hints | None:
        """The hints, if the option is set. Raises UsageError."""
        if self.hints is not None and self._hints is None:
            self._hints = Hints(self.hints)
        return self._hints

    def revision_for(self, unit: Unit | None) -> int:
        """Where torch computes 1, whose results are those of 0.1.0, or 2 if it averages views; elsewhere the latest."""
        computes = self.runtime.partition(" ")[0]  # with a version, if the options come from an output's metadata
        if computes == "auto":
            with suppress(UsageError):  # such as for a device of another machine
                computes = self._engine(self._digest)
        of_torch = 2 if self.quality == "best" else 1
        return of_torch if computes == "torch" else self.revision

    def shipped(self) -> Mapping[str, str]:
        """The weights, if they ship with the network of that name, and OpenVINO, which comes in another version some day."""
        names = self._models
        weights = {} if any(Path(name).suffix for name in names) else {"weights": _joined(names)}
        return {**weights, "runtime": "openvino"} if self._engine(self._digest) == "openvino" else weights

    def provenance(self, unit: Unit | None = None) -> dict[str, Any]:
        """The recipe, the name of the network, its precision and device as resolved by `setup`, and terms of others."""
        checkpoints = [describe(path) for path in self._paths]
        resolved = self._resolved or {NETWORK: _joined(each.network for each in checkpoints)}
        keys = dict.fromkeys(key for each in checkpoints for key in each.terms)
        terms = {key: "; ".join(each.terms[key] for each in checkpoints if key in each.terms) for key in keys}
        return {**super().provenance(unit), **resolved, **terms}

    def key(self, frame: Frame) -> tuple[tuple[Sizes, ...], bool] | None:
        """The sizes of each network's inputs, see `further_views`, and whether there are hints; None to predict nothing."""
        hinted = self._is_hinted(frame)
        if frame.chroma is not None or (frame.motion is not None and self._is_skipped(frame.motion) and not hinted):
            return None
        height, width = upright(frame.luma, frame.unit.media.orientation).shape
        quality = self.quality
        sizes = [
            (runtime.input_size(height, width, quality), *runtime.further_views(height, width, quality))
            for runtime in self._runtimes
        ]
        return tuple(sizes), hinted

    def _is_hinted(self, frame: Frame) -> bool:
        """Whether a frame is coloured with hints: of a film only in the first pass, if there is a stage that takes it on."""
        media = frame.unit.media
        if HINTED in frame.notes:
            return True
        if frame.index < 0 or (media.kind == "film" and self._held):
            return False
        found = self._found_hints()
        return found is not None and found.of(media, frame.index) is not None

    def apply(self, frames: list[Frame]) -> list[Frame]:
        """Predict the chroma (2, h, w) and the confidence (h, w) of frames with the same key."""
        key = self.key(frames[0])
        if key is None:
            return [
                replace(frame, notes={**frame.notes, KEPT: True}) if frame.chroma is not None else frame for frame in frames
            ]
        sizes, hinted = key
        self._warn_of_ignored_hints(frames[0].unit)
        found = [self._prediction(frames, *each, hinted=hinted) for each in zip(self._runtimes, sizes, strict=True)]
        whole = blended(found, self.shares or [1.0] * len(found), by_confidence=self.blend == "confidence")
        mean = whole.chroma * np.float32(self.saturation)
        chroma = [_stored(planes, frame) for planes, frame in zip(mean.clip(-0.5, 0.5), frames, strict=True)]
        made = [replace(frame, chroma=planes) for frame, planes in zip(frames, chroma, strict=True)]
        if whole.confidence is not None:
            sure = [_stored(planes, frame)[0] for planes, frame in zip(whole.confidence, frames, strict=True)]
            made = [replace(frame, confidence=plane) for frame, plane in zip(made, sure, strict=True)]
        if self._with_features and whole.features is not None:
            features = zip(whole.features, frames, strict=True)
            maps = [stored(planes, frame.unit.media.orientation).astype(np.float16) for planes, frame in features]
            made = [replace(frame, features=each) for frame, each in zip(made, maps, strict=True)]
        return made

    def _warn_of_ignored_hints(self, unit: Unit) -> None:
        """Say once of a film that hints are for none of its frames."""
        ignored = self._hints.ignored(unit.media) if self._hints else None
        if ignored and self._run.first(id(self), "hints", unit.media):
            where = f"{unit.media.name}/000123{ignored.suffix}"
            self._run.warn(
                f"the hints {ignored} are not used: call those of a film by the number of a frame, {where}", unit.media
            )

    def _prediction(self, frames: list[Frame], runtime: Runtime, sizes: Sizes, *, hinted: bool) -> Prediction:
        """The prediction of a network for frames: the mean of its views."""
        first, *others = [
            self._view(frames, runtime, size, hinted=hinted, mirrored=number > 0) for number, size in enumerate(sizes)
        ]
        chroma = average_views([view.chroma for view in (first, *others)])
        confidences = [view.confidence for view in (first, *others) if view.confidence is not None]
        return Prediction(chroma, average_views(confidences) if confidences else None, first.features)

    def _view(
        self, frames: list[Frame], runtime: Runtime, size: tuple[int, int], *, hinted: bool, mirrored: bool
    ) -> Prediction:
        """The prediction of a network for frames, at a size, mirrored left to right or not."""
        luma = np.stack([network_input(frame, *size) for frame in frames])
        hints = np.stack([self._hints_of(frame, size) for frame in frames]) if hinted else None
        if mirrored:
            luma = np.ascontiguousarray(luma[..., ::-1])
            hints = None if hints is None else np.ascontiguousarray(hints[..., ::-1])
        return self._predict(runtime, luma, hints, many=frames[0].unit.media.has_segments)

    def _hints_of(self, frame: Frame, size: tuple[int, int]) -> NDArray[np.float32]:
        """The hints (3, h, w) for a frame at the network's input size. Raises MediaError."""
        if (given := frame.notes.get(HINTED)) is not None:
            return resized(given, size)
        found = self._hints.read(frame.unit.media, size, frame.index) if self._hints else None
        return np.zeros((3, *size), np.float32) if found is None else found

    def _predict(
        self, runtime: Runtime, luma: NDArray[np.float32], hints: NDArray[np.float32] | None, *, many: bool
    ) -> Prediction:
        """The prediction for luma (B, h, w) in 0..1, and hints (B, 3, h, w), which are spread if the network takes none."""
        if hints is None or runtime.takes_hints:
            return runtime.predict(luma, self.vividness, hints, many=many)
        plain = runtime.predict(luma, self.vividness, many=many)
        features = [None] * len(luma) if plain.features is None else list(plain.features)
        told = [spread(*each) for each in zip(plain.chroma, luma, features, hints, strict=True)]
        return replace(plain, chroma=np.stack(told))

    @property
    def _every(self) -> int | Literal["auto"]:
        """The option; 1 if the frames in between would stay without chroma."""
        return 1 if self.every == "auto" and not self._filled else self.every

    def _is_skipped(self, motion: Motion) -> bool:
        """Whether a frame of a film is left to the stage that fills the gaps."""
        every = self._every
        return not motion.key if every == "auto" else motion.since % every > 0

    def close(self) -> None:
        """Release the weights."""
        self._runtimes.clear()
        while self._owned:
            self._owned.pop().close()

    @property
    def _models(self) -> list[str]:
        return [self.model] if isinstance(self.model, str) else self.model

    @property
    def _paths(self) -> list[Path]:
        """The checkpoints. Raises UsageError."""
        return [locate(model) for model in self._models]

    @property
    def _digest(self) -> str:
        """The digest of the weights, of a blend all of them. Raises UsageError."""
        return "+".join(cached_digest(path) for path in self._paths)

    @property
    def _devices(self) -> list[str]:
        return [self.device] if isinstance(self.device, str) else self.device

    def _engine(self, digest: str) -> Engine:
        """What computes, for weights of this digest. Raises UsageError."""
        before = str(self._facts.get(_runtime_fact(digest), "")).partition(" ")[0]
        return choose_engine(self.runtime, self._devices, self.precision, "torch" if before == "torch" else None)


def _joined(values: Iterable[str]) -> str:
    """Values that differ, in order."""
    return ", ".join(dict.fromkeys(values))


def _runtime_fact(digest: str) -> str:
    """The key under which an output folder remembers what `runtime: auto` is for the weights of this digest."""
    return f"runtime of {digest}"


def _with_version(engine: Engine) -> str:
    """What computes, with what its bytes depend on."""
    return f"openvino {openvino_version()}" if engine == "openvino" else engine


def _stored(planes: NDArray[np.float32], frame: Frame) -> NDArray[np.float16]:
    """Planes (C, h, w) of an upright frame, converted to the frame's stored orientation and format."""
    return frame_planes(stored(planes, frame.unit.media.orientation), frame.luma.shape)
