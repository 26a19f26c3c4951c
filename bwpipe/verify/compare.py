"""Compares outputs with their inputs: a single file before it gets its final name, or whole folders."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from bwpipe.core.frame import Broken, Media, Skipped, Unit
from bwpipe.core.inputs import expand_user, output_stem
from bwpipe.core.registry import UnknownNameError
from bwpipe.core.stage import Source, stages
from bwpipe.errors import MediaError, UsageError
from bwpipe.image.file import ImageFile
from bwpipe.image.open import open_image
from bwpipe.sequence.file import FrameSequence
from bwpipe.sequence.find import ALONE, open_frames
from bwpipe.sequence.naming import find_output, without_number
from bwpipe.sequence.numbering import names_frames
from bwpipe.verify.image import verify_image
from bwpipe.verify.sequence import verify_sequence
from bwpipe.verify.verdict import Limits, Verdict
from bwpipe.verify.video import verify_video
from bwpipe.video.file import VideoFile
from bwpipe.video.probe import open_video

_ANY_SIZE = 2**62


def check_output(media: Media, path: Path, *, said: Sequence[str] = (), tick: Callable[[], None] = lambda: None) -> None:
    """Raise MediaError if anything other than colour differs between a finished file and its input.

    Args:
        media: The input.
        path: The finished file, or the pattern of finished frames.
        said: The run's warnings about the input: what they announce is no difference.
        tick: Called after each frame; may raise to stop.
    """
    if isinstance(media, VideoFile) and names_frames(str(path)):
        output: Media = open_frames(path, rate=media.rate or 24, max_pixels=_ANY_SIZE)
    else:
        output = (open_video if isinstance(media, VideoFile) else open_image)(
            path, PurePosixPath(path.name), max_pixels=_ANY_SIZE
        )
    verdict = compare(media, output, Limits(), said=said, tick=tick)
    if first := next(iter(verdict.differences), None):
        more = f", and {len(verdict.differences) - 1} more" if len(verdict.differences) > 1 else ""
        raise MediaError(f"its output differs in more than colour: {first}{more}; set `verify: false` to keep it")


@dataclass(slots=True)
class Report:
    """The result of comparing files.

    Attributes:
        verdicts: One for each pair of files that could be read.
        unreadable: Error messages by file that can't be read.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)

    @property
    def different(self) -> int:
        """Number of outputs with differences."""
        return sum(bool(verdict.differences) for verdict in self.verdicts)

    @property
    def exit_code(self) -> int:
        """0: only colour was added; 1: there are differences; 2: a file can't be read."""
        return 2 if self.unreadable else 1 if self.different else 0

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-compatible data."""
        from bwpipe.core.console import printable
        from bwpipe.version import __version__

        return {
            "bwpipe": __version__,
            "files": [verdict.to_json() for verdict in self.verdicts],
            "unreadable": {printable(str(path)): why for path, why in self.unreadable.items()},
            "different": self.different,
        }

    def __str__(self) -> str:
        """A one-line summary of counts."""
        counts = {
            "with only colour added": len(self.verdicts) - self.different,
            "with differences": self.different,
            "unreadable": len(self.unreadable),
        }
        (first, *rest) = [(count, what) for what, count in counts.items() if count] or [(0, "to compare")]
        plural = "" if first[0] == 1 else "s"
        return ", ".join([f"{first[0]} file{plural} {first[1]}", *(f"{count} {what}" for count, what in rest)])


class Pairs:
    """Inputs and their outputs: paths below the output folder mirror those of the inputs, as with `write`.

    Attributes:
        inputs: The inputs to compare.
        said: The warnings of runs about an input.
    """

    def __init__(
        self,
        source: str | Sequence[str],
        output: Path,
        *,
        name: str = "{stem}",
        max_pixels: int | None = None,
        rate: str | None = None,
        is_output: Callable[[Path], bool] = lambda path: False,
        said: Callable[[Path], Sequence[str]] = lambda path: (),
    ) -> None:
        """Find the inputs.

        Args:
            source: A file, a folder or a pattern, or several of them, as in `read.path`.
            output: A file if `source` is one, or a folder.
            name: Output file name without its suffix, as in `write.name`.
            max_pixels: As in `read.max_pixels`.
            rate: As in `read.rate`: the files of a folder or a pattern are numbered frames.
            is_output: Whether a file was written by a run, and is therefore no input even if it lies among the inputs.
            said: The warnings that a run has given about an input: a loss that it announced is no difference.

        Raises:
            UsageError: There is nothing to read, or the output does not exist or does not match the input.
        """
        output = expand_user(output)
        frames = names_frames(str(output))
        if not output.exists() and not frames:
            raise UsageError(f"there is no file or folder {output}; give the output of a run")
        self._options: dict[str, Any] = {} if max_pixels is None else {"max_pixels": max_pixels}
        self._rate = rate
        self.said = said
        self._name, self._single = name, output if output.is_file() or frames else None
        sources = [source] if isinstance(source, str) else list(source)
        named = ", ".join(sources)
        if self._single and len(sources) > 1:
            raise UsageError(f"{output} is a file, but there are {len(sources)} inputs; give the folder of their outputs")
        if self._single and not (expand_user(sources[0]).is_file() or names_frames(sources[0])):
            raise UsageError(f"{output} is a file, but {named} is not; give two files, or two folders")
        self._folder = Path(os.path.realpath(output))
        units = (each for each in self._reader(sources).units() if not isinstance(each, Skipped))
        found = [each for each in units if self._single or not is_output(Path(os.path.realpath(each.path)))]
        if not found:
            raise UsageError(f"there is nothing to compare in {named}; give another folder")
        if all(isinstance(each, Broken) and each.error == ALONE for each in found):
            raise UsageError(f"{named} has numbered frames of a film; compare them with --rate, such as --rate 24")
        self.inputs = found
        self._names = {str(each.name) for each in found}
        self._listings: dict[Path, dict[str, list[Path]]] = {}

    def output(self, unit: Unit) -> Path | None:
        """The output of a unit; None if there is none. Raises MediaError if several files qualify."""
        if self._single:
            return self._single
        folder = self._folder / unit.name.parent
        if folder not in self._listings:
            self._listings[folder] = {}
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.is_file():
                    self._listings[folder].setdefault(path.stem, []).append(path)
        stem = output_stem(without_number(self._name), unit.name)
        candidates = [path for path in self._listings[folder].get(stem, []) if path.resolve() != unit.path.resolve()]
        exact = [path for path in candidates if path.suffix == unit.name.suffix]
        others = [path for path in candidates if f"{unit.name.parent / unit.name.stem}{path.suffix}" not in self._names]
        if not exact and len(others) > 1:
            raise MediaError(f"{' and '.join(map(str, others))} could both be its output; compare it with one of them")
        if not (exact or others) and isinstance(unit.media, VideoFile):
            return find_output(unit.media, self._folder, self._name)
        return next(iter(exact or others), None)

    def opened(self, path: Path) -> Media:
        """Open a file without reading its frames. Raises MediaError."""
        found = next(iter(self._reader([str(path)]).units()), None)
        if not isinstance(found, Unit):
            raise MediaError(found.error if isinstance(found, Broken) else "it can't be read")
        return found.media

    def _reader(self, paths: Sequence[str]) -> Source:
        options = dict(self._options)
        numbered = any(map(names_frames, paths))
        if self._rate or numbered:
            options |= {"rate": self._rate or "24", "gaps": "hold"}
            options |= {"sequence": True} if not numbered and any(Path(path).is_dir() for path in paths) else {}
        if all(Path(path).is_file() for path in paths):
            options.pop("rate", None)
        reader = stages["read"].model_validate({"path": paths[0] if len(paths) == 1 else list(paths), **options})
        assert isinstance(reader, Source)
        return reader


def verify(pairs: Pairs, limits: Limits, *, tell: Callable[[Path, Verdict | str], None], tick: Callable[[], None]) -> Report:
    """Compare all inputs with their outputs.

    Args:
        pairs: The files.
        limits: How far lossy coding may change luma.
        tell: Called with each file and its verdict, or the reason why it can't be read.
        tick: Called after each frame.
    """
    report = Report()

    def unreadable(path: Path, why: str) -> None:
        report.unreadable[path] = why
        tell(path, why)

    for found in pairs.inputs:
        if isinstance(found, Broken):
            unreadable(found.path, found.error)
            continue
        path = found.path
        try:
            output = pairs.output(found)
            if output is None:
                verdict = Verdict(found.path, found.path, found.media.kind, differences=["it has no output"])
            else:
                path = output
                media = pairs.opened(output)
                verdict = compare(found.media, media, limits, said=pairs.said(found.path), tick=tick)
        except MediaError as error:
            unreadable(path, str(error))
            continue
        report.verdicts.append(verdict)
        tell(path, verdict)
    return report


def compare(
    before: Media, after: Media, limits: Limits, *, said: Sequence[str] = (), tick: Callable[[], None] = lambda: None
) -> Verdict:
    """Compare a file with its output; `said` are the run's warnings about it. Raises MediaError."""
    match before, after:
        case VideoFile(), VideoFile() if isinstance(before, FrameSequence) or isinstance(after, FrameSequence):
            return verify_sequence(before, after, limits, said=said, tick=tick)
        case VideoFile(), VideoFile():
            verdict = verify_video(before, after, limits, said=said, tick=tick)
        case ImageFile(), ImageFile():
            verdict = verify_image(before, after, limits, said=said)
            tick()
        case _:
            what = f"it is a {after.kind}, but the input is a {before.kind}"
            verdict = Verdict(before.path, after.path, before.kind, differences=[what])
    verdict.outdated = ", ".join(_earlier_revisions(verdict, Unit(before)))
    return verdict


def _earlier_revisions(verdict: Verdict, unit: Unit) -> Iterator[str]:
    """The stages of which an earlier revision wrote the output, by its own metadata."""
    for recipe in verdict.facts.get("provenance", {}).get("stages", ()):
        name, revision = recipe.get("stage"), recipe.get("revision")
        if not isinstance(name, str) or not isinstance(revision, int):
            continue
        with suppress(UnknownNameError):  # of a plug-in that is not here
            cls = stages[name]
            options = {key: value for key, value in recipe.items() if key in cls.model_fields}
            latest = cls.model_construct(**options).revision_for(unit)
            if revision < latest:
                yield f"{name} {revision}, now {latest}"


def frames_of(pairs: Pairs) -> Iterator[int]:
    """Frame count of each input, for a progress bar."""
    return (each.media.frames or 1 for each in pairs.inputs if isinstance(each, Unit))
