"""What a new version of bwpipe would write differently, and how long doing it again would take."""

from collections.abc import Iterable, Sequence

from bwpipe.core.atomic_file import WORK_FOLDER
from bwpipe.core.segments import frame_range
from bwpipe.engine.event_log import REPORT, measured_seconds
from bwpipe.engine.ledger import Ledger
from bwpipe.engine.planner import Finished


def announcement(outdated: Sequence[Finished], ledgers: Iterable[Ledger]) -> str:
    """A sentence: how many files, about how long they took, and what to do."""
    seconds = estimated_seconds(outdated, ledgers)
    count = f"{len(outdated)} finished file{'s' * (len(outdated) > 1)}"
    about = f", about {in_words(seconds)}," if seconds is not None else ""
    what = "it" if len(outdated) == 1 else "them"
    return f"{count}{about} would be written differently by this version of bwpipe; run with --update to do {what} again"


def estimated_seconds(outdated: Sequence[Finished], ledgers: Iterable[Ledger]) -> float | None:
    """What the files took by the ledger or, where it does not say, by the frames of the last logged run; None if unknown."""
    total = 0.0
    rates: dict[str, float | None] = {}
    logs = [ledger.folder / WORK_FOLDER / REPORT for ledger in ledgers]
    for each in outdated:
        seconds = each.seconds
        if seconds is None:
            if each.sink not in rates:
                found = (measured_seconds(log, each.sink) for log in logs)
                rates[each.sink] = next((rate for rate in found if rate is not None), None)
            rate = rates[each.sink]
            start, stop = frame_range(each.unit)
            if rate is None or stop is None:
                return None
            seconds = rate * (stop - start)
        total += seconds
    return total


def in_words(seconds: float) -> str:
    """A duration, roughly: "3 hours"."""
    for size, name in ((3600, "hour"), (60, "minute")):
        if seconds >= size:
            amount = seconds / size
            text = f"{amount:.0f}" if amount >= 9.5 else f"{amount:.1f}".removesuffix(".0")
            return f"{text} {name}{'s' * (text != '1')}"
    text = f"{max(seconds, 1):.0f}"
    return f"{text} second{'s' * (text != '1')}"
