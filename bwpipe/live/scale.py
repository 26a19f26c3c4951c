"""An axis of a chart: where a value lies on it, and which values are marked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from statistics import median

SQUASHED = 8.0
"""How many times the median the highest value must be for the scale to be logarithmic: most of a curve would lie flat."""

LEAST = 1e-9
"""The least that a logarithmic scale shows, as a share of the highest value; what is less lies at its lower end."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From `low` to `high`.

    Attributes:
        low: The value at the lower end.
        high: The value at the upper end, greater.
        log: Whether equal lengths are equal factors.
    """

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float]) -> "Scale":
        """The scale that shows all these values, of which there is one at least, with a little room at both ends."""
        low, high = min(values), max(values)
        if low > 0 and high > SQUASHED * median(values):
            low = max(low, high * LEAST)
            room = (high / low) ** 0.04
            return cls(low / room, high * room, log=True)
        room = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room)

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the lower end, 1 at the upper."""
        if self.log:
            value = max(value, self.low)  # noise may reach 0
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, count: int) -> list[float]:
        """Round values on the scale, about `count` of them, ascending."""
        if self.log:
            exponents = range(floor(log10(self.low)), ceil(log10(self.high)))
            for factors in ((1, 2, 5), (1, 3), (1,)):
                found = [factor * 10.0**exponent for exponent in exponents for factor in factors]
                marks = [value for value in found if self.low <= value <= self.high]
                if len(marks) <= count + 1:
                    return marks
            return marks[:: ceil(len(marks) / count)]
        rough = (self.high - self.low) / count
        unit = 10.0 ** floor(log10(rough))
        step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= 0.75 * rough)
        return [i * step for i in range(ceil(self.low / step), floor(self.high / step) + 1)]


def number(value: float) -> str:
    """A number as one reads it: 0.0123, 12,345, 1e-5."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return re.sub(r"e([-+])0+", r"e\1", f"{value:.4g}")
