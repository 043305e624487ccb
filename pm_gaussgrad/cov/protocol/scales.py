"""Scales of observations: structures that remain of their kind, and products with NaN in them.

A scale that is not positive makes no covariance, though its square may look like one. Products with
it are NaN, which densities turn into -inf, and have a zero gradient there.
"""

from collections.abc import Callable
from functools import reduce, singledispatch
from operator import and_

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant

from pm_gaussgrad.ops.form import named_parameters

_RULES: dict[type, Callable] = {}


def rescales(kind: type):
    """Register the decorated function as D Sigma D of a family of structures.

    ``rule(cov, scale)`` returns a structure of the same kind, or None where it would be worse than
    the composite. Of several rules that of the nearest family is taken.
    """

    def register(rule):
        _RULES[kind] = rule
        return rule

    return register


def rescaled(cov, scale):
    """D Sigma D, D = diag(scale), as a structure of the same kind; None where there is none."""
    rule = next((_RULES[kind] for kind in type(cov).__mro__ if kind in _RULES), None)
    return None if rule is None else rule(cov, scale)


def as_positive(scale):
    """Where a scale is positive, and the scale with ones elsewhere."""
    # Comparisons have a gradient, zeros of floatX, which would make that of the scale wider than it
    # is; that of rounding is of its own dtype. (What is behind a `disconnected_grad` is computed
    # twice.)
    positive = pt.gt(pt.ceil(scale), 0)
    return positive, pt.switch(positive, scale, 1)


def nan_unless(usable, x):
    """The entries that are usable, NaN elsewhere, of the dtype that they have."""
    return pt.switch(usable, x, pt.constant(np.nan, dtype=x.dtype))


def _as_finite(x):
    """Where entries are finite, and the entries with ones elsewhere; True of a constant."""
    if isinstance(x, Constant):
        return True, x
    finite = pt.isfinite(pt.ceil(x))  # as above, of the dtype of x
    return finite, pt.switch(finite, x, 1)


def product(factor, x):
    """c x, broadcast; where one of both is not finite NaN, with a gradient of zero."""
    (usable, factor), (finite, x) = _as_finite(factor), _as_finite(x)
    both = [where for where in (usable, finite) if where is not True]
    return nan_unless(reduce(and_, both), factor * x) if both else factor * x


def times_scale(x, scale):
    """x s, broadcast."""
    (positive, safe), (finite, x) = as_positive(scale), _as_finite(x)
    return nan_unless(positive if finite is True else positive & finite, x * safe)


def times_both(matrix, scale):
    """D A D, exactly symmetric where A is: (..., n, n), (..., n) -> (..., n, n)."""
    positive, safe = as_positive(scale)
    both = positive[..., :, None] & positive[..., None, :]
    finite, matrix = _as_finite(matrix)
    usable = both if finite is True else both & finite
    return nan_unless(usable, matrix * (safe[..., :, None] * safe[..., None, :]))


def of_finite(cov, compute, ndim):
    """``compute(cov)``; where a parameter is not finite NaN, with a gradient of zero.

    What is computed has ``ndim`` core dimensions; it may be a tuple of tensors.
    A formula of NaN has a slope of NaN, by which a cotangent of zero is NaN too.
    """
    structure, safe, usable = cov.structure, [], []
    for _, dims, parameter in named_parameters(structure, cov.parameters):
        if parameter.dtype.startswith("float") and not isinstance(parameter, Constant):
            finite, replaced = _as_finite(parameter)
            core = tuple(range(-len(dims.split()), 0))
            usable.append(finite.all(axis=core) if core else finite)
            if len(core) == 2 and len(set(dims.split())) == 1:  # has an inverse
                whole, unit = usable[-1][..., None, None], pt.eye(parameter.shape[-1])
                replaced = pt.switch(whole, parameter, unit.astype(parameter.dtype))
            parameter = replaced
        safe.append(parameter)
    found = compute(structure.from_parameters(*safe, size=cov.size))
    if isinstance(found, tuple):
        return tuple(_where_all(usable, x, ndim) for x in found)
    return _where_all(usable, found, ndim)


@singledispatch
def finite_dense(cov):
    """``cov.to_dense()``; where a parameter is not finite NaN, with a gradient of zero.

    Of what is made of other covariances the matrix that theirs make is registered here.
    """
    return of_finite(cov, lambda x: x.to_dense(), 2)


def _where_all(usable, x, ndim):
    for whole in usable:
        depth = whole.type.ndim
        x = nan_unless(pt.expand_dims(whole, tuple(range(depth, depth + ndim))), x)
    return x


def root(factor):
    """sqrt(c), whose slope is finite where c is zero: of what is zero there, but for its slope."""
    usable = pt.ge(pt.floor(factor), 0)  # as above, of the dtype of the factor
    tiny = pt.constant(np.finfo(factor.dtype).tiny, dtype=factor.dtype)
    return nan_unless(usable, pt.sqrt(pt.switch(usable, factor + tiny, 1)))


def positive_root(factor):
    """sqrt(c) of what is no covariance where c is zero."""
    positive, safe = as_positive(factor)
    return nan_unless(positive, pt.sqrt(safe))


def inverse_scale(scale):
    """1 / s."""
    positive, safe = as_positive(scale)
    return nan_unless(positive, 1 / safe)
