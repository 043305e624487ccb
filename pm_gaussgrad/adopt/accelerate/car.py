"""``pm.CAR`` as a Markov field: its domain, and the constant that its density lacks."""

import numpy as np
import pytensor.tensor as pt
import scipy.sparse as sp
from pymc.logprob.abstract import _logprob
from pytensor.graph.basic import Constant
from pytensor.sparse.basic import DenseFromSparse
from pytensor.tensor.elemwise import DimShuffle

from pm_gaussgrad.cov import CAR
from pm_gaussgrad.distributions.normal import MvNormalRV


class UnnormalisedMvNormalRV(MvNormalRV):
    """A variable whose log density has a constant beside that of a normal one."""

    constant = 0.0

    def rebuild_rv(self, *args, **kwargs):
        return with_constant(super().rebuild_rv(*args, **kwargs), self.constant)


def with_constant(variable, constant):
    """A variable of that kind, whose log density has a constant beside it."""
    variable.owner.op.constant = constant
    return variable


@_logprob.register(UnnormalisedMvNormalRV)
def _logprob_with_constant(op, values, *inputs, **kwargs):
    return _logprob.dispatch(MvNormalRV)(op, values, *inputs, **kwargs) + op.constant


def as_car(weights, alpha, tau):
    """The covariance of a ``pm.CAR`` with constant weights, and what its log density lacks.

    None where the weights are not constant. Outside of the domain of ``pm.CAR``, which is part of
    that of the field, the field has no density either.
    """
    weights = _constant(weights)
    if weights is None:
        return None
    alpha, tau = alpha.reshape(()), tau.reshape(())
    inside = pt.lt(pt.abs(alpha), 1) & pt.gt(tau, 0)
    cov = CAR(weights, pt.switch(inside, alpha, np.nan), tau)
    sums = np.asarray(weights.sum(axis=1)).ravel()
    return cov, (sums.size * np.log(2 * np.pi) - np.log(sums).sum()) / 2


def _constant(weights):
    """A sparse matrix of SciPy; None where the weights are symbolic."""
    while weights.owner is not None and isinstance(weights.owner.op, DimShuffle | DenseFromSparse):
        [weights] = weights.owner.inputs
    if not isinstance(weights, Constant):
        return None
    data = weights.data
    return sp.csr_array(data if sp.issparse(data) else data.reshape(data.shape[-2:]))
