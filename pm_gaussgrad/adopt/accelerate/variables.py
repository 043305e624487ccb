"""Random variables of PyMC as variables with a structure: the same distribution, evaluated here."""

from dataclasses import dataclass

import pytensor
import pytensor.tensor as pt
from pymc.distributions.multivariate import (
    CARRV,
    KroneckerNormalRV,
    MatrixNormalRV,
    PrecisionMvNormalRV,
)
from pymc.distributions.multivariate import MvStudentTRV as PyMCMvStudentTRV
from pytensor.graph.basic import Apply, Constant
from pytensor.scalar.basic import Second
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.random.basic import MvNormalRV as PyMCMvNormalRV

from pm_gaussgrad.adopt.accelerate.car import UnnormalisedMvNormalRV, as_car, with_constant
from pm_gaussgrad.adopt.accelerate.diagonals import is_elemwise
from pm_gaussgrad.adopt.accelerate.grid import as_grid
from pm_gaussgrad.adopt.accelerate.rules import structure_of
from pm_gaussgrad.cov import Covariance, Precision
from pm_gaussgrad.cov.protocol.base import length
from pm_gaussgrad.cov.protocol.sized import of_size
from pm_gaussgrad.distributions.normal import MvNormalRV, StructuredRV
from pm_gaussgrad.distributions.student import MvStudentTRV

REPLACED = (PyMCMvNormalRV, PrecisionMvNormalRV, PyMCMvStudentTRV, KroneckerNormalRV, CARRV)
_OTHERS = {
    MatrixNormalRV: "a matrix normal variable has two dimensions; write the flattened matrix, "
    "gg.MvNormal with gg.cov.Kronecker",
}


class DeclinedError(ValueError):
    """Why a variable stays as it is."""


@dataclass(frozen=True)
class Replacement:
    """The node of a variable with a structure, and its covariance as it was found."""

    node: Apply
    covariance: Covariance


def reason_to_stay(node, named) -> str | None:
    """Why variables of a kind near those that are replaced are not; None of all others.

    Parameters
    ----------
    node : Apply
        That makes the variable.
    named : sequence of TensorVariable
        The variables of the model, which are looked at themselves.
    """
    op, instead = node.op, "sample the model as it is within gg.accelerated()"
    if isinstance(getattr(op, "core_op", None), REPLACED):
        return f"a variable of pymc.dims; {instead}"
    inside = [x for x in node.inputs if x.owner is not None and is_replaced(x.owner.op)]
    if any(x not in named for x in inside):
        return f"multivariate normal variables are a part of it, a {type(op).__name__}; {instead}"
    return next((why for kind, why in _OTHERS.items() if isinstance(op, kind)), None)


def is_replaced(op) -> bool:
    """Whether variables of this kind are looked at."""
    return isinstance(op, REPLACED) and not isinstance(op, StructuredRV)


def replacement(node, normalize=False) -> Replacement:
    """Of the node of a random variable that ``is_replaced``, or ``DeclinedError``.

    Parameters
    ----------
    node : Apply
    normalize : bool
        Whether to add the constant that the density of ``pm.CAR`` lacks.
    """
    rng, size, *arguments = node.inputs
    try:
        rv_op, leading, mu, cov = _described(node.op, arguments, normalize)
        mu = _plain(mu).astype(node.outputs[-1].dtype)
        cov = of_size(cov, length(mu))
        found = cov.resolved_for(length(mu))
        found.check_constants(mu.type.shape[-1])
        new = rv_op(*leading, mu, *found.parameters, structure=found.structure, rng=rng, size=size)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise DeclinedError(str(error)) from error
    return Replacement(new.owner, cov)


def _described(op, arguments, normalize):
    """What makes the variable, arguments ahead of the mean, the mean and the covariance."""
    if isinstance(op, CARRV):
        return _car(*arguments, normalize)
    if isinstance(op, KroneckerNormalRV):
        mu, sigma, *factors = arguments
        return MvNormalRV.rv_op, [], mu, as_grid(sigma, factors)
    if isinstance(op, PyMCMvStudentTRV):
        nu, mu, scale = arguments
        nu = nu.astype(pytensor.config.floatX)
        return MvStudentTRV.rv_op, [nu], mu, structure_of(_unbatched(scale))
    mu, matrix = arguments
    inverse = isinstance(op, PrecisionMvNormalRV)
    cov = Precision(_unbatched(matrix)) if inverse else structure_of(_unbatched(matrix))
    return MvNormalRV.rv_op, [], mu, cov


def _car(mu, weights, alpha, tau, _, normalize):
    found = as_car(weights, alpha, tau)
    if found is None:
        raise DeclinedError("the weights of a CAR are not constant, expected constant ones")
    cov, constant = found
    if normalize:
        return MvNormalRV.rv_op, [], mu, cov

    def rv_op(*args, **kwargs):
        return with_constant(UnnormalisedMvNormalRV.rv_op(*args, **kwargs), constant)

    return rv_op, [], mu, cov


def _unbatched(matrix):
    """A matrix without the leading dimensions of length one that align it with a batch."""
    lead = matrix.type.ndim - 2
    if lead <= 0 or not all(matrix.type.broadcastable[:lead]):
        return matrix
    if isinstance(matrix, Constant):
        return pt.constant(matrix.data.reshape(matrix.data.shape[lead:]))
    op = None if matrix.owner is None else matrix.owner.op
    if isinstance(op, DimShuffle) and op.new_order[:lead] == ("x",) * lead:
        rest, [inner] = op.new_order[lead:], matrix.owner.inputs
        return inner if rest == (0, 1) and inner.type.ndim == 2 else inner.dimshuffle(rest)
    if isinstance(op, Elemwise):
        return op(*(_unbatched(x) for x in matrix.owner.inputs))
    return matrix.squeeze(tuple(range(lead)))


def _plain(mu):
    """The mean before it was spread over the entries that the covariance has anyway."""
    if not is_elemwise(mu, Second):
        return mu
    like, value = mu.owner.inputs
    sizes = mu.type.shape[-1], value.type.shape[-1]
    repeats = all(like.type.broadcastable[:-1]) or value.type.ndim > like.type.ndim
    return value if repeats and None not in sizes and sizes[0] == sizes[1] else mu
