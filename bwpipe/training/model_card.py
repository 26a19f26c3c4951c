"""Model cards: a checkpoint's metadata as a page for people."""

import inspect
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from bwpipe.metrics.descriptions import FIGURES
from bwpipe.nn.checkpoint import Checkpoint
from bwpipe.nn.network import networks
from bwpipe.training.options import TrainingOptions
from bwpipe.training.validation import FIGURES as VALIDATION_FIGURES

_OWN_SECTIONS = {"data", "history", "scores", "figures", "grey", "by_folder", "protocol", "hues"}
"""Keys of a checkpoint's training metadata that have a section of their own in the card."""
_PER_FOLDER = ("rgb_mse", "ciede2000", "chroma_correlation", "colourfulness", "colourfulness_truth")
"""The figures that the card also lists per folder."""
_SEAL = b"\n<!-- a card of bwpipe, "


def card(name: str, checkpoint: Checkpoint) -> str:
    """The Markdown model card of a checkpoint made by `fit` or `adapt`, and `save`.

    Args:
        name: The checkpoint's name.
        checkpoint: Its metadata.
    """
    training = checkpoint.training
    facts = {key: value for key, value in training.items() if key not in _OWN_SECTIONS}
    options = facts.pop("options")
    description = inspect.getdoc(networks[checkpoint.network]) or ""
    text = f"""# {name}

Weights of the network `{checkpoint.network}`, made by bwpipe {checkpoint.version}.
This card is written from what the checkpoint says of itself.

{description}

**Terms of the weights:** {checkpoint.licence}

## Pictures

{training["data"]}

## Training

{_table({"": [*facts, *options], "value": [*facts.values(), *options.values()]})}

## Figures

{_figures(training)}
{_epochs(training) if "history" in training else ""}"""
    return text + _seal(text.encode()).decode()


def is_unmodified(data: bytes) -> bool:
    """Whether a file's bytes are a model card written by any version of bwpipe and not edited since."""
    text, start, seal = data.rpartition(_SEAL)
    return start + seal == _seal(text)


def _seal(text: bytes) -> bytes:
    """The last line of a card, hidden in Markdown: identifies a card of bwpipe, whichever version rendered it."""
    return _SEAL + blake2b(text, digest_size=16).hexdigest().encode() + b" -->\n"


def _figures(training: Mapping[str, Any]) -> str:
    """The figures of each `score`, and their meanings."""
    scores = training.get("scores", [training] if "figures" in training else [])  # older format: at most one
    if not scores:
        return "Not scored."
    used = {name for score in scores for name in score["figures"]}
    meanings = {name: text for name, text in FIGURES.items() if name in used}
    return "\n\n".join([*map(_score, scores), "What the figures are:", _list(meanings)])


def _score(score: Mapping[str, Any]) -> str:
    """The protocol of a score, its figures beside those of the grey input, and those of each folder."""
    grey = score["grey"]
    rows = {"all": score, **(score["by_folder"] if len(score["by_folder"]) > 1 else {})}
    whole = {
        "figure": list(score["figures"]),
        "guess": list(score["figures"].values()),
        "grey": [grey.get(name, "") for name in score["figures"]],
    }
    parts = [f"### {_cell(score['protocol']['set'])}", _table(whole)]
    if len(rows) > 1:
        each = {name: [row["figures"].get(name, "") for row in rows.values()] for name in _PER_FOLDER}
        counts = [score["protocol"]["pictures"], *(row["pictures"] for row in score["by_folder"].values())]
        parts.append(_table({"folder": list(rows), "pictures": counts, **each}))
    return "\n\n".join([*parts, _list(score["protocol"])])


def _epochs(training: Mapping[str, Any]) -> str:
    """The figures of each epoch, and which of them was chosen."""
    history = training["history"]
    meanings = {key: text for key, text in VALIDATION_FIGURES.items() if key in history[0]}
    return f"""
## Epochs

Measured on pictures that were not trained on, in the size that was trained at. {_chosen(training)}

{_table({key: [epoch.get(key, "") for epoch in history] for key in history[0]})}

{_list(meanings)}
"""


def _chosen(training: Mapping[str, Any]) -> str:
    """States which epoch's weights these are, and why, or that they are a mean."""
    goal = training["options"].get("goal", TrainingOptions().goal)
    why = "the last" if goal == "epoch" else f"the best by `{goal}`"
    chosen = f"those of epoch {training['best_epoch']}, {why}."
    return (
        f"The weights are a mean (`soup`); what was fitted are {chosen}" if "soup" in training else f"The weights are {chosen}"
    )


def _list(items: Mapping[str, Any]) -> str:
    return "\n".join(f"- {_cell(key)}: {_cell(value)}" for key, value in items.items())


def _table(columns: Mapping[str, list[Any]]) -> str:
    """A Markdown table."""
    rows = [list(columns), ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(value: Any) -> str:
    """A value on one line, with Markdown's cell separators escaped."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_cell(key)} {_cell(each)}" for key, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).splitlines()).replace("|", "\\|")
