r"""``CompoundSymmetry``: one variance, one correlation.

Definition: Sigma = v ((1 - rho) I + rho 11'), or the same as variance components,
Sigma = w I + c 11' with w = v (1 - rho), c = v rho. Storage: two numbers. Cost: O(n) a row.

A row splits into its mean and what is left, r = mean 1 + d, the components in the two eigenspaces
of Sigma, with the eigenvalues b = v (1 + (n - 1) rho) (once, along 1) and w (n - 1 times):

    quad = sum_j d_j^2 / w + n mean^2 / b        alpha_j = d_j / w + mean / b
    logdet = (n - 1) log w + log b

Both parts of quad are sums of squares, 1 - rho is exact near rho = 1, and 1 + (n - 1) rho
loses near zero no more than rho, a rounded number, has lost already.

Pullback: with W = l_bar (n - 1) - sum_i q_bar_i within_i and B = l_bar - sum_i q_bar_i
between_i, where within_i and between_i are the two parts of quad_i,

    variance_bar = (W + B) / v    correlation_bar = (n - 1) v B / b - v W / w
    own_bar = W / w + B / b       common_bar = n B / b

Sources: Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, eqs. A.9 and
A.10 with a single column of ones; Searle, Casella and McCulloch (1992), Variance Components.
"""

import numpy as np
import pytensor.tensor as pt

from pm_gaussgrad.cov.groups.grouped_symmetry import BESIDE_NOISE, GroupedSymmetry
from pm_gaussgrad.cov.matrices.diagonal import Diagonal, ScalarDiagonal
from pm_gaussgrad.cov.protocol.arguments import as_size
from pm_gaussgrad.cov.protocol.base import as_parameter, length
from pm_gaussgrad.cov.protocol.constants import (
    check_finite,
    check_positive,
    check_variance,
    check_within,
)
from pm_gaussgrad.cov.protocol.information import half_gram
from pm_gaussgrad.cov.protocol.leaf import ScalarLeaf
from pm_gaussgrad.cov.protocol.products import rows_of_diagonal
from pm_gaussgrad.cov.protocol.scales import of_finite, product
from pm_gaussgrad.cov.protocol.sums import closes, common_size, mends
from pm_gaussgrad.kernels.compound_symmetry import (
    eigenvalue_weights,
    split_and_solve,
    split_and_solve_jax,
)


def _forward(residual, variance, correlation):
    n = residual.shape[1]
    between = variance * (1 + (n - 1) * correlation) if n > 1 else variance
    return split_and_solve(residual, variance * (1 - correlation), between)


def _pullback(variance, correlation, alpha, quad_within, quad_between, quad_bar, logdet_bar):
    within, between = eigenvalue_weights(alpha, quad_within, quad_between, quad_bar, logdet_bar)
    others = max(alpha.shape[1] - 1, 0)
    through_between = others * between / (1 + others * correlation)
    correlation_bar = through_between - within / (1 - correlation) if others > 0 else 0.0
    return (within + between) / variance, correlation_bar


def _component_forward(residual, own, common):
    return split_and_solve(residual, own, own + residual.shape[1] * common)


def _component_pullback(own, common, alpha, quad_within, quad_between, quad_bar, logdet_bar):
    within, between = eigenvalue_weights(alpha, quad_within, quad_between, quad_bar, logdet_bar)
    n = alpha.shape[1]
    through_between = between / (own + n * common)
    own_bar = through_between + within / own if n > 1 else through_between
    return own_bar, n * through_between


class CompoundSymmetry(ScalarLeaf):
    r"""One variance, one correlation: :math:`\Sigma = v\,((1-\rho) I + \rho\,\mathbf{1 1}^\top)`.

    Observations of one group: repeated measures without an order, members of a family, a
    random intercept integrated out.

    Parameters
    ----------
    variance : tensor_like, shape () or (...), in units of [y]^2
        Marginal variance v. Leading dimensions are batches.
    correlation : tensor_like, shape () or (...), in units of 1
        Correlation rho of any two observations, between -1 / (n - 1) and 1. With n = 1 it does
        not matter.
    size : int or scalar tensor, optional
        Number of observations n. Needed where nothing else says it (``to_dense``, ``logdet``,
        draws without data or shape).
    group : array_like, shape (n), in units of labels, optional
        Constant: whose each observation is, in any order. Groups are independent; each may have
        parameters of its own, (..., g), and is then given by its number, 0 to g - 1.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If n is asked for and nothing says it, a constant variance is negative, or a constant
        correlation is not in -1 to 1.

    Notes
    -----
    Cost of value and gradient: O(n) a row. With the eigenvalues :math:`w = v(1-\rho)` and
    :math:`b = v(1 + (n-1)\rho)`, and :math:`q^w_i, q^b_i` the quadratic forms of the deviations
    from the mean of row i and of the mean, the pullback is

    .. math::

        \bar v &= \frac{W + B}{v}, \qquad
        \bar\rho = \frac{(n-1)\,B}{1 + (n-1)\rho} - \frac{W}{1-\rho}, \\
        W &= (n-1)\,\bar l - \sum_i \bar q_i q^w_i, \qquad B = \bar l - \sum_i \bar q_i q^b_i.

    :meth:`from_components` takes the variance of each observation's own part and that of the
    part which all share instead, as sums do: ``gg.cov.CompoundSymmetry(t2, 1.0) +
    gg.cov.Diagonal(s2)`` is a random intercept with a variance of t2 and noise.

    References
    ----------
    Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian Processes for Machine Learning,
    eqs. A.9 and A.10, with a single column of ones.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> gg.cov.CompoundSymmetry(2.0, 0.25, size=3).to_dense().eval()
    array([[2. , 0.5, 0.5],
           [0.5, 2. , 0.5],
           [0.5, 0.5, 2. ]])
    """

    how = "closed form, n"
    parameter_shapes = {"variance": "", "correlation": ""}
    saved_shapes = {"quad_within": "m", "quad_between": "m"}
    forward = staticmethod(_forward)
    pullback = staticmethod(_pullback)

    def __new__(cls, variance, correlation, size=None, *, group=None):
        owner = "gg.cov.CompoundSymmetry"
        variance = as_parameter(owner, "variance", variance, 0)
        correlation = as_parameter(owner, "correlation", correlation, 0)
        check_variance(owner, "variance", variance)
        size = as_size(owner, size)
        if size != 1:  # of a single observation the correlation does not matter
            check_within(owner, "correlation", correlation, -1, 1)
        if group is not None:
            components = variance * (1 - correlation), variance * correlation
            return GroupedSymmetry.of(*components, group, size)
        self = object.__new__(cls)
        self.parameters, self._size = (variance, correlation), size
        return self

    def check_constants(self, n=None):
        n = self.size if isinstance(self.size, int) else n
        # Where the number of observations is unknown there are at least two.
        for name, value in self._positive(2 if n is None else n).items():
            check_positive(self.label, name, value, "the covariance would be singular")

    def _positive(self, n):
        """What must be positive for n observations, by name."""
        variance, correlation = self.parameters
        if n < 2:
            return {"variance": variance}
        return {
            "variance": variance,
            "1 - correlation": 1 - correlation,
            f"1 + {n - 1} * correlation": 1 + (n - 1) * correlation,
        }

    @classmethod
    def from_components(cls, own, common, size=None, *, group=None):
        r"""``own`` I + ``common`` 11': a part that is each observation's own and one they share.

        Parameters
        ----------
        own : tensor_like, shape () or (...), in units of [y]^2
            Variance of the part that is independent between observations, v (1 - rho).
        common : tensor_like, shape () or (...), in units of [y]^2
            Covariance of any two observations, v rho; greater than -own / n.
        size, group : optional
            As above.

        Returns
        -------
        CompoundSymmetry
            Of these two parameters, which keep the digits that a correlation near one loses.

        Examples
        --------
        >>> import pm_gaussgrad as gg
        >>> cov = gg.cov.CompoundSymmetry.from_components(1.0, 0.5)
        >>> round(float(cov.logp([0.0, 0.0, 0.0]).eval()), 6)
        -3.214961
        """
        name = "gg.cov.CompoundSymmetry.from_components"
        parameters = as_parameter(name, "own", own, 0), as_parameter(name, "common", common, 0)
        check_variance(name, "own", parameters[0])
        check_finite(name, "common", parameters[1])
        size = as_size(name, size)
        if group is not None:
            return GroupedSymmetry.of(*parameters, group, size)
        return ComponentSymmetry.from_parameters(*parameters, size=size)

    def _components(self):
        variance, correlation = self.parameters
        return variance * (1 - correlation), variance * correlation

    def _variance(self):
        return self.parameters[0]

    def _eigenvalues(self, n):
        """Within, (n - 1) times, and between, once; with n = 1 the latter for both."""
        variance, correlation = self.parameters
        single, others = pt.eq(n, 1), pt.as_tensor(n - 1).astype(correlation.dtype)
        between = pt.switch(single, variance, variance * (1 + others * correlation))
        return pt.switch(single, variance, variance * (1 - correlation)), between

    def to_dense(self):
        n = self.known_size()
        own, common = self._components()
        identity = pt.eye(n, dtype=own.dtype)
        return own[..., None, None] * identity + common[..., None, None] * pt.ones_like(identity)

    def color(self, z):
        return self._with_eigenvalues(pt.sqrt, z)

    def whiten(self, residual):
        return self._with_eigenvalues(lambda x: 1 / pt.sqrt(x), residual)

    def times(self, rows):
        return self._with_eigenvalues(pt.as_tensor_variable, rows)

    def _with_eigenvalues(self, of, rows):
        rows = pt.as_tensor_variable(rows)
        within, between = (of(x)[..., None] for x in self._eigenvalues(length(rows)))
        mean = rows.mean(axis=-1, keepdims=True)
        return within * (rows - mean) + between * mean

    def _repeated(self, value):
        return pt.broadcast_to(value[..., None], (*value.shape, self.known_size()))

    def diagonal(self):
        return self._repeated(self._variance())

    def inverse_diagonal(self):
        within, between = self._eigenvalues(self.known_size())
        n = pt.as_tensor(self.size).astype(within.dtype)
        return self._repeated((1 - 1 / n) / within + 1 / (n * between))

    def keep(self, observed):
        return self.from_parameters(*self.parameters, size=observed.size)

    def rows_apart(self, observed):
        own, common = (x[..., None] for x in self._components())
        return GroupedSymmetry.of_numbers(own, common, np.nonzero(observed)[0], len(observed))

    def grouped_by(self):
        return GroupedSymmetry

    def by_group(self, size):
        """The components, the numbers of the observations' groups, and how many there are."""
        return *self._components(), np.zeros(size, "int64"), 1

    def innovations(self, residual):
        # w + t c, t = 1, ..., n, is what the first t add up to, divided by t: the next has the
        # mean c sum / (w + t c) and the variance w (w + (t + 1) c) / (w + t c).
        residual = pt.as_tensor_variable(residual)
        own, common = (x[..., None] for x in self._components())
        times = pt.cumsum(pt.ones_like(residual), axis=-1)
        levels, before = self._levels(times), self._levels(times - 1)
        sums = pt.cumsum(residual, axis=-1) - residual
        first = pt.eq(times, 1)
        # Ratios ahead of products, which would leave the range of numbers: PyTensor reorders
        # factors, but not across a switch without a zero.
        mean = pt.switch(first, 1, common / before) * sums
        ratio = pt.switch(first, 1, levels / before)
        scale = pt.sqrt(pt.switch(first, levels, own)) * pt.sqrt(ratio)
        return (residual - mean) / scale, pt.log(scale)

    def _levels(self, times):
        """w + t c, without the rounding of v (1 - rho) + v rho."""
        variance, correlation = (p[..., None] for p in self.parameters)
        return variance * (1 + (times - 1) * correlation)

    def scaled(self, factor):
        variance, correlation = self.parameters
        return self.from_parameters(product(factor, variance), correlation, size=self.size)

    @staticmethod
    def forward_jax(residual, variance, correlation):
        n = residual.shape[1]
        between = variance * (1 + (n - 1) * correlation) if n > 1 else variance
        return split_and_solve_jax(residual, variance * (1 - correlation), between)

    @staticmethod
    def pullback_jax(variance, correlation, alpha, quad_within, quad_between, quad_bar, logdet_bar):
        others = alpha.shape[1] - 1
        if others < 0:
            return 0 * variance, 0 * correlation
        within = logdet_bar * others - (quad_bar * quad_within).sum()
        between = logdet_bar - (quad_bar * quad_between).sum()
        if others == 0:
            return between / variance, 0 * between
        through_between = others * between / (1 + others * correlation)
        return (within + between) / variance, through_between - within / (1 - correlation)

    def rows(self, positions):
        own, common = self._components()
        return rows_of_diagonal(positions, own, self.size) + common

    def autocovariances(self):
        return self.to_dense()[..., 0, :]

    def information(self, tangents):
        (variance, correlation), (variance_dot, correlation_dot) = self.parameters, tangents
        others = self._count() - 1
        scale = variance_dot / variance
        within = scale - correlation_dot / (1 - correlation)
        between = scale + others * correlation_dot / (1 + others * correlation)
        return _of_two_eigenvalues(others, within, between, scale)


class ComponentSymmetry(CompoundSymmetry):
    """``CompoundSymmetry`` by its variance components: what ``from_components`` returns."""

    label = "gg.cov.CompoundSymmetry"
    parameter_shapes = {"own": "", "common": ""}
    forward = staticmethod(_component_forward)
    pullback = staticmethod(_component_pullback)

    def _positive(self, n):
        own, common = self.parameters
        between = {f"own + {n} * common": own + n * common}
        return between if n < 2 else {"own": own, **between}

    def _components(self):
        return self.parameters

    def _variance(self):
        own, common = self.parameters
        return own + common

    def _eigenvalues(self, n):
        own, common = self.parameters
        between = own + pt.as_tensor(n).astype(own.dtype) * common
        return pt.switch(pt.eq(n, 1), between, own), between

    def _levels(self, times):
        own, common = (p[..., None] for p in self.parameters)
        return own + times * common

    def scaled(self, factor):
        own, common = self.parameters
        return self.from_parameters(product(factor, own), product(factor, common), size=self.size)

    @staticmethod
    def forward_jax(residual, own, common):
        return split_and_solve_jax(residual, own, own + residual.shape[1] * common)

    @staticmethod
    def pullback_jax(own, common, alpha, quad_within, quad_between, quad_bar, logdet_bar):
        n = alpha.shape[1]
        if n == 0:
            return 0 * own, 0 * common
        within = logdet_bar * (n - 1) - (quad_bar * quad_within).sum()
        between = logdet_bar - (quad_bar * quad_between).sum()
        through_between = between / (own + n * common)
        own_bar = through_between + within / own if n > 1 else through_between
        return own_bar, n * through_between

    def information(self, tangents):
        (own, common), (own_dot, common_dot) = self.parameters, tangents
        n = self._count()
        between = (own_dot + n * common_dot) / (own + n * common)
        return _of_two_eigenvalues(n - 1, own_dot / own, between, between)


@closes(CompoundSymmetry, CompoundSymmetry)
def _sum(left, right):
    parts = zip(*(of_finite(x, lambda x: x._components(), 0) for x in (left, right)), strict=True)
    size = common_size(left, right)
    return ComponentSymmetry.from_parameters(*(a + b for a, b in parts), size=size)


@closes(CompoundSymmetry, ScalarDiagonal)
def _sum_with_noise(left, right):
    noise, size = right.parameters[0], right.size
    return _sum(left, ComponentSymmetry.from_parameters(noise, pt.zeros_like(noise), size=size))


mends(CompoundSymmetry, Diagonal, BESIDE_NOISE)


def _of_two_eigenvalues(others, within, between, single):
    """Information from derivatives of the logarithms of the eigenvalues; ``single`` with n = 1."""
    many = others * half_gram(within) + half_gram(between)
    return pt.switch(pt.eq(others, 0), half_gram(single), many)
