r"""Sufficient statistics of rows with a linear mean: few rows of the same scatter.

Let Y (m, n) be constant and the rows have the means X B + b[g]. With the means of groups,
xbar and ybar (G, ..), counts w, and what is left within groups, Y - ybar[g] = (X - xbar[g]) B^ + E,
let [X - xbar[g], E] = Q R, R = [[R_xx, R_xe], [0, R_ee]]. Then for every B, b and Sigma

    sum_i (y_i - mu_i)' Sigma^-1 (y_i - mu_i) = sum_j s_j' Sigma^-1 s_j

with the rows s_j of R_ee (n), of R_xe + R_xx (B^ - B) (p), and w_g^1/2 (ybar_g - xbar_g B - b_g)
for each group: p + n + G rows in place of m, whatever m is. B^ may be anything; least squares keeps
all digits of R_ee.

Where Y, X or g are shared data the same is computed when the data are new to a compiled function
(:mod:`pm_gaussgrad.ops.remembered`). The rows themselves are rows of the same scatter, too: B^ = 0,
each row a group of its own where there are groups.

Sources: Anderson (2003), An Introduction to Multivariate Statistical Analysis, sections 3.2 and
8.2; Golub and Van Loan (2013), Matrix Computations, section 5.3 (R of a QR decomposition).
"""

from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import graph_inputs

from pm_gaussgrad.likelihood.data import data_in
from pm_gaussgrad.ops import remembered


def group_means(array, codes, count):
    """Means of the rows (m, k) of each group, zero of none, and their numbers: (G, k), (G)."""
    sizes = np.bincount(codes, minlength=count).astype(float)
    sums = np.zeros((count, array.shape[1]))
    np.add.at(sums, codes, array)
    return sums / np.maximum(sizes, 1)[:, None], sizes


def fit_and_factor(x, y):
    """B^ (p, n), and R of [x, y - x B^] as (p + n or m rows, p + n)."""
    fitted = np.linalg.lstsq(x, y)[0]
    return fitted, np.linalg.qr(np.hstack([x, y - x @ fitted]), mode="r")


def rows_of_same_scatter(rows, design, coefficients, by_group, dtype):
    """The rows s_j of the module docstring.

    Parameters
    ----------
    rows : array, shape (m, n)
        Y less what is constant in the mean.
    design : array, shape (m, p)
    coefficients : list of TensorVariable, each of shape (p_i, n or 1)
        B in pieces.
    by_group : LookedUp or None
    dtype : str
        Of the result.

    Returns
    -------
    TensorVariable, shape (n + p + number of groups, n)
    """
    n, p = rows.shape[1], design.shape[1]
    x, y = design, rows
    if by_group is not None:
        count = by_group.effects.type.shape[0]
        of_x, sizes = group_means(x, by_group.codes, count)
        of_y, _ = group_means(y, by_group.codes, count)
        x, y = x - of_x[by_group.codes], y - of_y[by_group.codes]
    fitted, factor = fit_and_factor(x, y)
    found = [_constant(factor[p:, p:], dtype)]
    if p:
        off = pt.concatenate([pt.broadcast_to(b, (b.shape[0], n)) for b in coefficients])
        off = _constant(fitted, dtype) - off.astype(dtype)
        found.append(_constant(factor[:p, p:], dtype) + _constant(factor[:p, :p], dtype) @ off)
    if by_group is not None:
        means = _constant(of_y - of_x @ fitted, dtype) - by_group.effects.astype(dtype)
        if p:
            means += _constant(of_x, dtype) @ off
        found.append(_constant(np.sqrt(sizes)[:, None], dtype) * means)
    return pt.concatenate(found)


def _constant(array, dtype):
    return pt.constant(array.astype(dtype))


def rows_of_data(rows, design, coefficients, by_group, dtype):
    """The same of data: tensors that depend on shared data and constants.

    Parameters
    ----------
    rows : TensorVariable, shape (m, n)
    design : TensorVariable, shape (m, p), or None
    coefficients, by_group, dtype
        As above; the codes of the groups are data or constants.

    Returns
    -------
    TensorVariable, shape (some, n)
    """
    x = pt.zeros((rows.shape[0], 0), dtype="float64") if design is None else design
    fitted, of_x, of_y, *groups = _remembered(_as_they_are(x, rows, by_group), by_group)
    off = None
    if design is not None:
        n = rows.shape[1]
        off = pt.concatenate([pt.broadcast_to(b, (b.shape[0], n)) for b in coefficients])
        off = fitted - off.astype("float64")
        of_y = of_y + of_x @ off
    if by_group is None:
        return of_y.astype(dtype)
    used, root, means_of_x, means = groups
    means = means - by_group.effects[used].astype("float64")
    if design is not None:
        means = means + means_of_x @ off
    means = pt.switch(root[:, None] > 0, root[:, None] * means, 0)
    return pt.concatenate([of_y, means]).astype(dtype)


def _as_they_are(x, y, by_group):
    """B^, rows of X and of E; of groups their codes, roots of numbers, means of X and Y - X B^.

    All rows, those of groups of one.
    """
    none = pt.zeros((x.shape[1], y.shape[1]), dtype="float64")
    if by_group is None:
        return [none, x, y]
    codes = pt.as_tensor_variable(by_group.codes)
    return [none, x[:0], y[:0], codes, pt.ones(y.shape[:1], dtype="float64"), x, y]


@dataclass(frozen=True)
class FewRows:
    """The same of as few rows as the module says, of so many groups or of none."""

    groups: int | None = None

    def __call__(self, fitted, of_x, of_y, *of_groups):
        if self.groups is None:
            return self._factored(of_x, of_y)
        codes, _, x, y = of_groups
        if not len(x) == len(y) == len(codes):
            raise ValueError(
                f"the data of a log density have {len(y)} rows, {len(x)} rows of a design and "
                f"{len(codes)} groups of rows, expected as many."
            )
        means_of_x, sizes = group_means(x, codes, self.groups)
        means_of_y, _ = group_means(y, codes, self.groups)
        found = self._factored(x - means_of_x[codes], y - means_of_y[codes])
        means = means_of_y - means_of_x @ found[0]
        return [*found, np.arange(self.groups), np.sqrt(sizes), means_of_x, means]

    def _factored(self, x, y):
        fitted, factor = fit_and_factor(x, y)
        p = x.shape[1]
        return [fitted, factor[:, :p], factor[:, p:]]


def _remembered(outputs, by_group):
    """The same by the data in them; large constants stay outside."""
    large = [x for x in graph_inputs(outputs) if isinstance(x, Constant) and np.size(x.data) > 1000]
    large = list(dict.fromkeys(large))
    inside = [x.type() for x in large]
    inner = graph_replace(outputs, dict(zip(large, inside, strict=True)), strict=False)
    groups = None if by_group is None else by_group.effects.type.shape[0]
    return remembered(data_in(*outputs), inside, large, inner, FewRows(groups))
