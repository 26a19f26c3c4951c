"""Model cards: what a checkpoint says of itself, for people."""

import inspect
from collections.abc import Mapping
from typing import Any

from bwpipe.metrics import FIGURES
from bwpipe.network import Checkpoint, networks


def card(name: str, checkpoint: Checkpoint) -> str:
    """The model card, in Markdown, of a checkpoint that `fit` and `save` made.

    Args:
        name: The checkpoint's.
        checkpoint: What it says of itself.
    """
    told = dict(checkpoint.training)
    data, protocol, figures, history = (told.pop(key) for key in ("data", "protocol", "figures", "history"))
    about = inspect.getdoc(networks[checkpoint.network]) or ""
    epochs = [{"epoch": number, **epoch} for number, epoch in enumerate(history, start=1)]
    return f"""# {name}

Weights of the network `{checkpoint.network}`, made by bwpipe {checkpoint.version}.
This card is written from what the checkpoint says of itself.

{about}

**Terms of the weights:** {checkpoint.licence}

## Pictures

{data}

## Training

{_table({"": list(told), "value": list(told.values())})}

## Figures

{protocol}

{_table({"figure": list(figures), "value": list(figures.values()), "what it is": [FIGURES[key] for key in figures]})}

## Epochs

{_table({key: [epoch[key] for epoch in epochs] for key in epochs[0]})}
"""


def _table(columns: Mapping[str, list[Any]]) -> str:
    """A table in Markdown."""
    rows = [list(columns), ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
