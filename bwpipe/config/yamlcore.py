"""Plain scalars as YAML 1.2's core schema has them (yaml.org/spec/1.2.2, section 10.3.2)."""

import re
from collections.abc import Callable

_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], int | float]], ...] = (
    (re.compile(r"[-+]?[0-9]{1,1000}"), int),
    (re.compile(r"0o[0-7]{1,1000}|0x[0-9a-fA-F]{1,1000}"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda text: float(text.replace(".", ""))),
)


def plain(text: str) -> str | int | float | bool | None:
    """What text without quotes means: `off`, `yes`, `12:30`, `1_000` and `2024-01-01` are text, and `1e-3` is a number."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return next((make(text) for pattern, make in _NUMBERS if pattern.fullmatch(text)), text)
