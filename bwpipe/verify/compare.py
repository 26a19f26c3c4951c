"""Compares an output with its input before it gets its name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from bwpipe.core.frame import Broken, Media, Unit
from bwpipe.core.stage import Source, stages
from bwpipe.errors import MediaError, UsageError
from bwpipe.image.file import ImageFile
from bwpipe.image.open import open_image
from bwpipe.verify.image import verify_image
from bwpipe.verify.verdict import Limits, Verdict
from bwpipe.verify.video import verify_video
from bwpipe.video.file import VideoFile
from bwpipe.video.probe import open_video

_ANY_SIZE = 2**62


def check_output(media: Media, path: Path, *, tick: Callable[[], None] = lambda: None) -> None:
    """Raise MediaError if something other than colour differs between a finished file and the one that it was made of.

    `tick` is called after each frame; what it raises ends the comparison.
    """
    opener = open_video if isinstance(media, VideoFile) else open_image
    verdict = compare(media, opener(path, PurePosixPath(path.name), max_pixels=_ANY_SIZE), Limits(), tick=tick)
    if first := next(iter(verdict.differences), None):
        more = f", and {len(verdict.differences) - 1} more" if len(verdict.differences) > 1 else ""
        raise MediaError(f"what was written of it differs in more than colour: {first}{more}; `verify: false` would keep it")


@dataclass(slots=True)
class Report:
    """What came of comparing files.

    Attributes:
        verdicts: One for each pair of files that could be read.
        unreadable: The files that can't be read, and why.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)

    @property
    def different(self) -> int:
        """How many outputs have differences."""
        return sum(bool(verdict.differences) for verdict in self.verdicts)

    @property
    def exit_code(self) -> int:
        """0: only colour was added; 1: there are differences; 2: a file can't be read."""
        return 2 if self.unreadable else 1 if self.different else 0

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        from bwpipe.core.console import printable
        from bwpipe.version import __version__

        return {
            "bwpipe": __version__,
            "files": [verdict.to_json() for verdict in self.verdicts],
            "unreadable": {printable(str(path)): why for path, why in self.unreadable.items()},
            "different": self.different,
        }

    def __str__(self) -> str:
        """A line of counts."""
        counts = {
            "with only colour added": len(self.verdicts) - self.different,
            "with differences": self.different,
            "can't be read": len(self.unreadable),
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing to compare"


class Pairs:
    """The inputs, and the file that each became: its place below the output folder mirrors the input's, as `write` has it.

    Attributes:
        inputs: What was found to be compared.
    """

    def __init__(
        self,
        source: str,
        output: Path,
        *,
        name: str = "{stem}",
        max_pixels: int | None = None,
        is_output: Callable[[Path], bool] = lambda path: False,
    ) -> None:
        """Find the inputs.

        Args:
            source: A file, a folder or a pattern, as `read.path` takes it.
            output: A file, if `source` is one, or a folder.
            name: What outputs are called without their ending, as `write.name` says.
            max_pixels: As `read.max_pixels` says.
            is_output: Whether a file was written by a run, so that it is no input though it lies among these.

        Raises:
            UsageError: There is nothing to read, or the output is no such file or folder.
        """
        output = output.expanduser()
        if not output.exists():
            raise UsageError(f"there is no file or folder {output}; give the output of a run")
        self._options = {} if max_pixels is None else {"max_pixels": max_pixels}
        self._name, self._alone = name, output if output.is_file() else None
        if self._alone and not Path(source).expanduser().is_file():
            raise UsageError(f"{output} is a file, and {source} is none; give two files, or two folders")
        self._folder = output.resolve()
        found = [each for each in self._reader(source).units() if self._alone or not is_output(each.path.resolve())]
        if not found:
            raise UsageError(f"there is nothing to compare in {source}; give another folder")
        self.inputs = found
        self._names = {str(each.name) for each in found}
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def output(self, unit: Unit) -> Path | None:
        """What a unit became; None if there is nothing. Raises MediaError where it may be one of several files."""
        if self._alone:
            return self._alone
        folder = self._folder / unit.name.parent
        if folder not in self._listed:
            self._listed[folder] = {}
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.is_file():
                    self._listed[folder].setdefault(path.stem, []).append(path)
        stem = self._name.replace("{stem}", unit.name.stem)
        same = [path for path in self._listed[folder].get(stem, []) if path.resolve() != unit.path.resolve()]
        exact = [path for path in same if path.suffix == unit.name.suffix]
        others = [path for path in same if f"{unit.name.parent / unit.name.stem}{path.suffix}" not in self._names]
        if not exact and len(others) > 1:
            raise MediaError(f"{' and '.join(map(str, others))} could both be its output; compare it with one of them")
        return next(iter(exact or others), None)

    def opened(self, path: Path) -> Media:
        """What is known of a file before its frames are read. Raises MediaError."""
        found = next(iter(self._reader(str(path)).units()), None)
        if not isinstance(found, Unit):
            raise MediaError(found.error if found else "it can't be read")
        return found.media

    def _reader(self, path: str) -> Source:
        reader = stages["read"].model_validate({"path": path, **self._options})
        assert isinstance(reader, Source)
        return reader


def verify(pairs: Pairs, limits: Limits, *, tell: Callable[[Path, Verdict | str], None], tick: Callable[[], None]) -> Report:
    """Compare all inputs with what they became.

    Args:
        pairs: The files.
        limits: How far luma may be moved by what is coded with losses.
        tell: Told of each file, as soon as it was compared: its verdict, or why it can't be read.
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
            made = pairs.output(found)
            if made is None:
                verdict = Verdict(found.path, found.path, found.media.kind, differences=["it has no output"])
            else:
                path = made
                media = pairs.opened(made)
                verdict = compare(found.media, media, limits, tick=tick)
        except MediaError as error:
            unreadable(path, str(error))
            continue
        report.verdicts.append(verdict)
        tell(path, verdict)
    return report


def compare(before: Media, after: Media, limits: Limits, *, tick: Callable[[], None] = lambda: None) -> Verdict:
    """Compare a file with what it became. Raises MediaError."""
    match before, after:
        case VideoFile(), VideoFile():
            return verify_video(before, after, limits, tick=tick)
        case ImageFile(), ImageFile():
            verdict = verify_image(before, after, limits)
            tick()
            return verdict
    return Verdict(before.path, after.path, before.kind, differences=[f"it is a {after.kind}, and the input a {before.kind}"])


def frames_of(pairs: Pairs) -> Iterator[int]:
    """How many frames each input has, for a bar."""
    return (each.media.frames or 1 for each in pairs.inputs if isinstance(each, Unit))
