"""The rules by which structures are proved, in the order in which they are tried."""

from pm_gaussgrad.adopt.accelerate import factors, multiples, stacked, sums  # noqa: F401
from pm_gaussgrad.adopt.accelerate.matrices import known_structure, structure_of

__all__ = ["known_structure", "structure_of"]
