r"""Sufficient statistics of rows with a linear mean: few rows of the same scatter.

Let Y (m, n) be constant and the rows have the means X B + b[g]. With the means of groups,
xbar and ybar (G, ..), counts w, and what is left within groups, Y - ybar[g] = (X - xbar[g]) B^ + E,
let [X - xbar[g], E] = Q R, R = [[R_xx, R_xe], [0, R_ee]]. Then for every B, b and Sigma

    sum_i (y_i - mu_i)' Sigma^-1 (y_i - mu_i) = sum_j s_j' Sigma^-1 s_j

with the rows s_j of R_ee (n), of R_xe + R_xx (B^ - B) (p), and w_g^1/2 (ybar_g - xbar_g B - b_g)
for each group: p + n + G rows in place of m, whatever m is. B^ may be anything; least squares keeps
all digits of R_ee.

Sources: Anderson (2003), An Introduction to Multivariate Statistical Analysis, sections 3.2 and
8.2; Golub and Van Loan (2013), Matrix Computations, section 5.3 (R of a QR decomposition).
"""

import numpy as np
import pytensor.tensor as pt


def group_means(array, codes, count):
    """Means of the rows (m, k) of each group and their numbers: (G, k), (G)."""
    sizes = np.bincount(codes, minlength=count).astype(float)
    sums = np.zeros((count, array.shape[1]))
    np.add.at(sums, codes, array)
    return sums / sizes[:, None], sizes


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
    fitted = np.linalg.lstsq(x, y)[0]
    factor = np.linalg.qr(np.hstack([x, y - x @ fitted]), mode="r")
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
