"""Which files are outputs of earlier runs, and what the outputs of a run are called."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from bwpipe.core.atomic_file import WORK_FOLDER
from bwpipe.core.frame import Broken, Skipped, Unit
from bwpipe.core.stage import Sink
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.shares import share_folders
from bwpipe.errors import BwpipeError, UsageError
from bwpipe.graph.corrections import CORRECTIONS


class EarlierOutputs:
    """The files among the inputs that runs wrote: they are never coloured again.

    They are whatever is in an output folder of this run that is inside the folder that is read, and otherwise what the ledger
    of an output folder, of this run or another, knows. To read the outputs of another run, give its output folder itself.
    """

    def __init__(self, ledgers: Iterable[Ledger] = (), corrections: Path | None = None) -> None:
        """`ledgers` are those of this run's output folders, others are found beside the files; `corrections` is this run's."""
        self._corrections = None if corrections is None else _real(corrections)
        self._own = [(_real(ledger.folder), ledger) for ledger in ledgers]
        self._others: dict[Path, Ledger | bool] = {}

    def __contains__(self, found: Unit | Broken | Skipped) -> bool:
        """Whether an input is an output, or a correction."""
        return self.corrects(found) or self.wrote(_real(found.path), _real(root_of(found)))

    def corrects(self, found: Unit | Broken | Skipped) -> bool:
        """Whether an input is in a folder of corrections: that of this run, or one beside the ledger of another."""
        path = _real(found.path)
        if self._corrections is not None and path.is_relative_to(self._corrections):
            return True
        above = [folder for folder in path.parents if folder.name == CORRECTIONS and _real(root_of(found)) in folder.parents]
        return any(os.path.lexists(folder.parent / WORK_FOLDER) for folder in above)

    def wrote(self, path: Path, root: Path) -> bool:
        """Whether a run wrote a file that was found below the folder `root`; both have their links resolved."""
        for folder, ledger in self._own:
            if folder in path.parents and (
                folder not in (root, *root.parents) or ledger.knows(ledger.folder / path.relative_to(folder))
            ):
                return True
        return any(self._knows(folder, path) for folder in path.parents if root in folder.parents)

    def _knows(self, folder: Path, path: Path) -> bool:
        """Whether a file is an output in this folder; all are if it has a ledger that can't be read."""
        if folder not in self._others:
            try:
                ledger = Ledger(folder)
                self._others[folder] = ledger if ledger.path.exists() or share_folders(folder) else False
            except BwpipeError:
                self._others[folder] = True
        known = self._others[folder]
        return known.knows(path) if isinstance(known, Ledger) else known


class OutputNames:
    """Checks the names of all outputs: they are unique, overwrite no input and stay in their folder."""

    def __init__(self, inputs: Sequence[Unit | Broken]) -> None:
        """`inputs` are all files that were found, readable or not."""
        self._inputs = [(path, each) for each in inputs for path in (_real(each.path), _real_name(each.path))]
        self._by_name: dict[bool, dict[str, Unit | Broken]] = {}
        self._claimed: dict[str, str] = {}
        self._case_insensitive: dict[Path, bool] = {}

    def clashes(self, units: Sequence[Unit], sinks: Iterable[Sink]) -> dict[Unit, Broken]:
        """The units whose output would have the name of another unit's, with an error that names both."""
        found: dict[Unit, Broken] = {}
        for sink in sinks:
            by_name: dict[str, list[Unit]] = {}
            for unit in units:
                by_name.setdefault(self._key(sink.target(unit), sink.folder), []).append(unit)
            for same in by_name.values():
                for unit, other in zip(same, same[1:] + same[:1], strict=True) if len(same) > 1 else ():
                    text = f"it and {other.path} would both become {sink.target(unit)}; rename one, or write to another `name`"
                    hint = ', as `--set "write.name={stem}-{suffix}"` does' if unit.name.suffix != other.name.suffix else ""
                    found[unit] = Broken(unit.path, unit.name, text + hint)
        return found

    def claim(self, target: Path, sink: str, folder: Path) -> None:
        """Claim a name for the output of a sink in its folder. Raises UsageError."""
        other = self._claimed.setdefault(self._key(target, folder), sink)
        if other != sink:
            raise UsageError(f"{other} and {sink} would both write {target}; give one of them another `path` or `name`")
        if not _real(target.parent).is_relative_to(_real(folder)):
            raise UsageError(f"{target.parent} is a link that leads outside {folder}; remove it, or choose another `path`")
        folded = self._case_insensitive[folder]
        if folded not in self._by_name:
            self._by_name[folded] = {_key(path, folded=folded): each for path, each in self._inputs}
        if overwritten := self._by_name[folded].get(_key(_real_name(target), folded=folded)):
            raise UsageError(f"{target} would overwrite the input {overwritten.path}; write to another `path`")

    def _key(self, target: Path, folder: Path) -> str:
        if folder not in self._case_insensitive:
            self._case_insensitive[folder] = _is_case_insensitive(folder)
        return _key(target, folded=self._case_insensitive[folder])


def root_of(found: Unit | Broken | Skipped) -> Path:
    """The folder that was read, in which a file was found."""
    return found.path.parents[len(found.name.parts) - 1]


def _key(path: Path, *, folded: bool) -> str:
    """What two names have in common if they name one file."""
    return unicodedata.normalize("NFC", str(path)).casefold() if folded else str(path)


def _is_case_insensitive(folder: Path) -> bool:
    """Whether the file system of a folder, which need not exist, is case-insensitive: asked of a name that is there."""
    place = next(place for place in (folder, *folder.parents) if place.exists())
    with suppress(OSError):
        for path in chain(place.iterdir(), (place, *place.parents)):
            other = path.parent / path.name.swapcase()
            if path.name.isascii() and other != path:
                return os.path.lexists(other) and os.path.samestat(other.lstat(), path.lstat())
    return False


def _real(path: Path) -> Path:
    """The path with links resolved; unlike `Path.resolve`, it does not fail where a link leads to itself."""
    return Path(os.path.realpath(path))


def _real_name(path: Path) -> Path:
    """The name in its folder, with the folder's links resolved: what is replaced when a file gets this name."""
    return _real(path.parent) / path.name
