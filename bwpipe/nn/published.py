"""What is known of a network whose weights others publish."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """Where a network comes from, and on which terms.

    Attributes:
        project: The name of the project that publishes weights.
        citation: The paper.
        terms: The terms of the published code and weights, as the project states them.
        colours: The colour space in which the network computes.
    """

    project: str
    citation: str
    terms: str
    colours: str

    def lines(self) -> dict[str, str]:
        """Each with what it is, for people."""
        return {
            "published by": self.project,
            "please cite": self.citation,
            "terms": self.terms,
            "computes in": self.colours,
        }
