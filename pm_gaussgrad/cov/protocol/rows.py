"""Some rows of a covariance matrix, without the others: its definition, read in strips.

A structure registers its form below, or in its own file with ``covariance_rows.register``. One
whose parameters have a matrix of its size needs none: the whole is no larger.
"""

from functools import reduce, singledispatch

import pytensor.tensor as pt

from pm_gaussgrad.cov.grids.kronecker import Kronecker, NoisyKronecker
from pm_gaussgrad.cov.grids.toeplitz import Toeplitz
from pm_gaussgrad.cov.groups.compound_symmetry import ComponentSymmetry, CompoundSymmetry
from pm_gaussgrad.cov.groups.repeated_measures import RepeatedMeasures
from pm_gaussgrad.cov.matrices.diagonal import Diagonal, ScalarDiagonal
from pm_gaussgrad.cov.matrices.low_rank import LowRankPlusDiagonal
from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.cov.protocol.marginal import Marginal
from pm_gaussgrad.cov.series.ar1 import AR1


@singledispatch
def covariance_rows(cov: Covariance, positions):
    """Sigma[positions], shape (c, n), in memory c n beside the structure's own.

    Parameters
    ----------
    cov : Covariance
        Without batch dimensions, of known size.
    positions : TensorVariable of int, shape (c,)
        From 0 to n - 1, in any order.

    Raises
    ------
    NotImplementedError
        If the structure has no form registered, and no parameter of shape (n, n).
    """
    if any(dims.split() == ["n", "n"] for dims in cov.structure.parameter_shapes.values()):
        return cov.to_dense()[positions]
    raise NotImplementedError(
        f"{cov.label}: rows of the covariance have no form of their own here, and nothing is made "
        "dense unasked. Register one with covariance_rows.register of "
        "pm_gaussgrad.cov.protocol.rows, or "
        "the Fisher information itself with covariance_information.register of "
        "pm_gaussgrad.cov.protocol.information; or write gg.cov.Dense(cov.to_dense()), at a "
        "cost of n^3."
    )


def unit_rows(positions, n, dtype):
    """Rows of the identity, (c,) -> (c, n)."""
    return pt.eq(positions[:, None], pt.arange(n)).astype(dtype)


def _on_diagonal(cov, positions, variances):
    return unit_rows(positions, cov.size, variances.dtype) * variances


@covariance_rows.register(Diagonal)
@covariance_rows.register(ScalarDiagonal)
def _of_diagonal(cov, positions):
    return _on_diagonal(cov, positions, cov.parameters[0])


@covariance_rows.register
def _of_ar1(cov: AR1, positions):
    variance, correlation = cov.parameters
    lag = pt.abs(positions[:, None] - pt.arange(cov.size))
    # Powers from the square on have two derivatives at zero.
    power = pt.switch(pt.eq(lag, 1), correlation, correlation ** pt.maximum(lag, 2))
    return variance * pt.switch(pt.eq(lag, 0), 1, power)


@covariance_rows.register(CompoundSymmetry)
@covariance_rows.register(ComponentSymmetry)
def _of_two_components(cov, positions):
    own, common = cov._components()
    return _on_diagonal(cov, positions, own) + common


@covariance_rows.register
def _of_low_rank(cov: LowRankPlusDiagonal, positions):
    factor = cov.parameters[0]
    return factor[positions] @ factor.T + _on_diagonal(cov, positions, cov._variances())


@covariance_rows.register
def _of_toeplitz(cov: Toeplitz, positions):
    [column] = cov.parameters
    return column[pt.abs(positions[:, None] - pt.arange(cov.size))]


@covariance_rows.register
def _of_kronecker(cov: Kronecker, positions):
    strips = []
    for factor in reversed(cov._symmetric()):
        strips.append(factor[positions % factor.shape[0]])
        positions = positions // factor.shape[0]
    return reduce(_rowwise_kronecker, reversed(strips))


def _rowwise_kronecker(left, right):
    """Kronecker products of rows, (c, k), (c, l) -> (c, k l)."""
    return pt.join_dims(left[:, :, None] * right[:, None, :], start_axis=1, n_axes=2)


@covariance_rows.register
def _of_noisy_kronecker(cov: NoisyKronecker, positions):
    return _of_kronecker(cov, positions) + _on_diagonal(cov, positions, cov.parameters[-1])


@covariance_rows.register
def _of_repeated_measures(cov: RepeatedMeasures, positions):
    within, subject, visit = cov._within(), cov.parameters[4], cov._visit()
    same = pt.eq(subject[positions][:, None], subject)
    return pt.switch(same, within[visit[positions]][:, visit], 0)


@covariance_rows.register
def _of_marginal(cov: Marginal, positions):
    return covariance_rows(cov._whole, cov.observed[positions])[:, cov.observed]
