"""Model cards: what a checkpoint says of itself, for people."""

import inspect
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from bwpipe.metrics.descriptions import FIGURES
from bwpipe.nn.checkpoint import Checkpoint
from bwpipe.nn.network import networks
from bwpipe.training.options import TrainingOptions
from bwpipe.training.validation import FIGURES as VALIDATION_FIGURES

_PARTS = {"data", "history", "scores", "figures", "grey", "by_folder", "protocol", "hues"}
"""What a training says that has a place of its own in the card."""
_EACH = ("rgb_mse", "ciede2000", "chroma_correlation", "colourfulness", "colourfulness_truth")
"""The figures that the card has of each folder, too."""
_SEAL = b"\n<!-- a card of bwpipe, "


def card(name: str, checkpoint: Checkpoint) -> str:
    """The model card, in Markdown, of a checkpoint that `fit` and `save` made.

    Args:
        name: The checkpoint's.
        checkpoint: What it says of itself.
    """
    told = checkpoint.training
    facts = {key: value for key, value in told.items() if key not in _PARTS}
    options = facts.pop("options")
    about = inspect.getdoc(networks[checkpoint.network]) or ""
    history = told["history"]
    said = {key: text for key, text in VALIDATION_FIGURES.items() if key in history[0]}
    text = f"""# {name}

Weights of the network `{checkpoint.network}`, made by bwpipe {checkpoint.version}.
This card is written from what the checkpoint says of itself.

{about}

**Terms of the weights:** {checkpoint.licence}

## Pictures

{told["data"]}

## Training

{_table({"": [*facts, *options], "value": [*facts.values(), *options.values()]})}

## Figures

{_figures(told)}

## Epochs

Measured on pictures that were not trained on, in the size that was trained at. {_chosen(told)}

{_table({key: [epoch.get(key, "") for epoch in history] for key in history[0]})}

{_list(said)}
"""
    return text + _seal(text.encode()).decode()


def untouched(data: bytes) -> bool:
    """Whether these are the bytes of a card that this or another version of bwpipe wrote, and that nobody changed since."""
    text, start, seal = data.rpartition(_SEAL)
    return start + seal == _seal(text)


def _seal(text: bytes) -> bytes:
    """The last line of a card, which Markdown does not show: it tells a card of ours, whichever version rendered it."""
    return _SEAL + blake2b(text, digest_size=16).hexdigest().encode() + b" -->\n"


def _figures(told: Mapping[str, Any]) -> str:
    """What each `score` measured, and what its figures are."""
    scores = told.get("scores", [told] if "figures" in told else [])  # once there was one at most, not in a list
    if not scores:
        return "Not scored."
    used = {name for score in scores for name in score["figures"]}
    said = {name: text for name, text in FIGURES.items() if name in used}
    return "\n\n".join([*map(_score, scores), "What the figures are:", _list(said)])


def _score(score: Mapping[str, Any]) -> str:
    """The protocol of a score, its figures beside grey's, and those of each folder."""
    grey = score["grey"]
    rows = {"all": score, **(score["by_folder"] if len(score["by_folder"]) > 1 else {})}
    whole = {
        "figure": list(score["figures"]),
        "guess": list(score["figures"].values()),
        "grey": [grey.get(name, "") for name in score["figures"]],
    }
    parts = [f"### {_cell(score['protocol']['set'])}", _table(whole)]
    if len(rows) > 1:
        each = {name: [row["figures"].get(name, "") for row in rows.values()] for name in _EACH}
        counts = [score["protocol"]["pictures"], *(row["pictures"] for row in score["by_folder"].values())]
        parts.append(_table({"folder": list(rows), "pictures": counts, **each}))
    return "\n\n".join([*parts, _list(score["protocol"])])


def _chosen(told: Mapping[str, Any]) -> str:
    """Which epoch's weights these are, and why, or that they are a mean."""
    goal = told["options"].get("goal", TrainingOptions().goal)
    why = "the last" if goal == "epoch" else f"the best by `{goal}`"
    chosen = f"those of epoch {told['best_epoch']}, {why}."
    return f"The weights are a mean (`soup`); what was fitted are {chosen}" if "soup" in told else f"The weights are {chosen}"


def _list(told: Mapping[str, Any]) -> str:
    return "\n".join(f"- {_cell(key)}: {_cell(value)}" for key, value in told.items())


def _table(columns: Mapping[str, list[Any]]) -> str:
    """A table in Markdown."""
    rows = [list(columns), ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(value: Any) -> str:
    """A value as one line, of which Markdown makes no two cells."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_cell(key)} {_cell(each)}" for key, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).splitlines()).replace("|", "\\|")
