"""What a covariance is evaluated by, in words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How a covariance is evaluated and what that costs; ``str`` of it is for people.

    Attributes
    ----------
    label : str
        The name of the structure.
    how : str
        Its algorithm and the cost of value and gradient.
    parts : tuple of Plan
        Those of the structures that it works with.
    """

    label: str
    how: str
    parts: tuple["Plan", ...] = ()

    def __str__(self):
        lines = [f"{self.label}: {self.how}"]
        for part in self.parts:
            lines += [f"    {line}" for line in str(part).splitlines()]
        return "\n".join(lines)

    __repr__ = __str__
