"""What predictions are made of: new entries beside the observations, and symbolic results."""

from dataclasses import dataclass, field

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov import Covariance, Dense
from pm_gaussgrad.cov.protocol.arguments import named_dims_hint
from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.sized import of_size


@dataclass(frozen=True)
class Predicted:
    """Symbolic predictions, of one draw of the parameters.

    Attributes
    ----------
    n_new : int
    mean, draw : TensorVariable, shape (..., n_new)
    variances : TensorVariable, shape (..., n_new), or None
    noise : tuple of TensorVariable
        White noise that the draw is a function of.
    contradictory : TensorVariable of bool, shape ()
        Whether what was given contradicts itself or the model.
    complaint : str
        What to say then.
    """

    n_new: int
    mean: pt.TensorVariable
    variances: pt.TensorVariable | None
    draw: pt.TensorVariable | None
    noise: tuple
    contradictory: pt.TensorVariable = field(default_factory=lambda: pt.constant(np.array(False)))
    complaint: str = ""

    def check(self, owner, contradictory) -> None:
        """Raise a ValueError where that is so at a draw of the parameters."""
        if contradictory.any():
            raise ValueError(f"{owner}: {self.complaint}")


@dataclass(frozen=True)
class Together:
    """Observations, and what is to be predicted beside them.

    Attributes
    ----------
    cov : Covariance
        Of all, of known size n.
    mu : TensorVariable, shape (..., n)
    residual : TensorVariable, shape (..., n)
        Zero where nothing is observed.
    missing : array of bool, shape (..., n)
        New entries are missing from the observations.
    wanted : array of int
        Positions of what is to be predicted.
    """

    cov: Covariance
    mu: pt.TensorVariable
    residual: pt.TensorVariable
    missing: np.ndarray
    wanted: np.ndarray


def together(owner, likelihood, mu, cov, new) -> Together:
    """From the mean and the covariance of observations and new entries, and where these are."""
    *rows, n = likelihood.data.shape
    new, old = positions(owner, new, n)
    size = len(new) + len(old)
    mu = as_parameter(owner, "mu", mu, 0)
    cov = cov if isinstance(cov, Covariance) else Dense(as_parameter(owner, "cov", cov, 2))
    for argument, found in (("mu", mu.type.shape[-1:]), ("cov", (cov.size,))):
        if any(isinstance(x, int) and x != size and (argument, x) != ("mu", 1) for x in found):
            raise ValueError(
                f"{owner}: `{argument}` is for {found[0]} entries, expected {size}: the {n} "
                f"observations of {likelihood.name!r} and {len(new)} new entries together."
            )
    mu = pt.broadcast_to(mu, (*rows, size))
    known = likelihood.value - mu[..., old]
    missing = np.ones((*rows, size), bool)
    missing[..., old] = False
    if likelihood.missing is not None:
        missing[..., old] = likelihood.missing
        known = pt.switch(likelihood.missing, 0, known)
    residual = pt.zeros((*rows, size), dtype=known.dtype)[..., old].set(known)
    return Together(of_size(cov, size), mu, residual, missing, new)


def positions(owner, new, n):
    """Positions of the new entries, in the user's order, and of the observations."""
    hint, new = named_dims_hint(new), np.asarray(new)
    if new.ndim != 1 or new.dtype.kind not in "biu" or new.size == 0:
        raise TypeError(
            f"{owner}: `new` has shape {new.shape} and dtype {new.dtype}, expected a vector of "
            f"bool, a mask, or of int, positions{hint}; at least one entry is new."
        )
    size = new.size if new.dtype.kind == "b" else n + new.size
    new = np.flatnonzero(new) if new.dtype.kind == "b" else new.astype("int64")
    old = np.setdiff1d(np.arange(size), new)
    if old.size != n or new.size == 0:
        raise ValueError(
            f"{owner}: `new` leaves {old.size} of {size} entries as observations, expected the {n} "
            "of the fitted model: distinct positions in the data and new entries together, or a "
            "mask of all of them."
        )
    return new, old
