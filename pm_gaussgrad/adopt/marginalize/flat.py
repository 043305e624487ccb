"""Coefficients with a flat prior, in the covariance of a likelihood."""

import pandas as pd
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.adopt.marginalize.parts import jacobian_of
from pm_gaussgrad.cov import Covariance, Linear


def of_flat(designs) -> list[Covariance]:
    """The summand of coefficients, of their bases and designs (n, m); none of none.

    Raises
    ------
    ValueError
        If constant designs together do not identify each coefficient.
    """
    if not designs:
        return []
    whole = pt.concatenate([design for _, design in designs], axis=1)
    if all(isinstance(design, Constant) for _, design in designs):
        names = [name for base, _ in designs for name in _entries(base)]
        return [Linear(pd.DataFrame(whole.eval(), columns=names), "flat")]
    return [Linear(whole, "flat")]


def design_of(pieces):
    """The design (n, m) of coefficients, a constant where it is one."""
    jacobian = jacobian_of(pieces)
    if isinstance(jacobian, Constant):
        return pt.constant(jacobian.data.T)
    return jacobian.T


def _entries(base):
    """The names of the entries of a base."""
    return [base.owner] if base.size == 1 else [f"{base.owner}[{i}]" for i in range(base.size)]
