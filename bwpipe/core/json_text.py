"""JSON from files that damage or somebody else may have changed."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """What a text stands for. Raises ValueError, also where json would raise RecursionError: brackets nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error
