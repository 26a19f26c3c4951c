"""A stage at its position in a graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bwpipe.core.stage import Stage
from bwpipe.errors import UsageError
from bwpipe.graph.document import Override


@dataclass(frozen=True, slots=True)
class Node:
    """A stage at its position in a graph.

    Attributes:
        id: Its id in the graph.
        stage: The stage, with its options.
        upstream: The id of the node whose items it takes; None for the source.
        where: Where it is defined: `pipeline.yaml:4:5`, or `stages[1]` in a dict.
        given: The options that the user gave; those of a graph that comes with bwpipe are not the user's.
        overrides: The overrides of its options; their keys are those of the options.
    """

    id: str
    stage: Stage
    upstream: str | None
    where: str
    given: frozenset[str] = frozenset()
    overrides: tuple[Override, ...] = ()

    def where_is(self, option: str) -> str:
        """Where an option was set: the origin of its override, or else where the stage is defined."""
        return next((each.origin for each in self.overrides if each.key == option), self.where)

    @contextmanager
    def error_context(self) -> Iterator[None]:
        """Prefix a UsageError raised inside with the override whose value it quotes, or else where the stage is defined."""
        try:
            yield
        except UsageError as error:
            text = str(error)
            quoting = (each.origin for each in self.overrides if _quotes(text, each.value))
            raise UsageError(f"{next(quoting, self.where)}: {text}") from error


def _quotes(text: str, value: Any) -> bool:
    """Whether a message has a value, or one of a list."""
    values = value if isinstance(value, list) else [value]
    return any(each not in (None, "") and str(each) in text for each in values)
