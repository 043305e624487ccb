r"""Polarisation: a symmetric bilinear form in two rows by its quadratic form, all digits kept.

    c a' + a c' = ((c + a)(c + a)' - (c - a)(c - a)') / 2

By it the cotangents that reach parameters through a solve are those of quadratic forms
(:mod:`pm_gaussgrad.ops.inv_quad_logdet`). The difference loses as many digits as the lengths of
the two rows differ by, so they are made equal first: the form stays as it is where c is
multiplied and a divided by the same number.

One text for PyTensor and for JAX: ``xp`` is ``pytensor.tensor`` or ``jax.numpy``.
"""

# Cotangents of the quadratic forms of the two rows that :func:`polarise` returns.
WEIGHTS = (0.25, -0.25)


def balance(xp, left, right):
    """The t for which t left and right / t have equal length: (..., n), (..., n) -> (..., 1).

    One where a row is zero or not finite.
    """
    # Sums of moduli and a ratio of roots: neither overflows where squares would.
    lengths = (xp.abs(row).sum(axis=-1, keepdims=True) for row in (right, left))
    right_root, left_root = map(xp.sqrt, lengths)
    scale = right_root / left_root
    return xp.where(xp.isfinite(scale) & (scale > 0), scale, 1)


def polarise(left, right, scale):
    """t left + right / t and t left - right / t, each of shape (..., n)."""
    return left * scale + right / scale, left * scale - right / scale


def rejected(xp, weights, rows):
    """Rows that are not finite and whose weights are zero: (..., 1), (..., n) -> (..., 1).

    A point that is rejected for its covariance has zero cotangents and NaN in what was solved for,
    of which the product is to be zero. Where rows are finite none is rejected, so that products
    with weights of zero keep their derivatives by the weights, as forward mode needs.
    """
    return xp.equal(weights, 0) & ~xp.isfinite(rows).all(axis=-1, keepdims=True)


def weighted(xp, weights, rows):
    """weights * rows, zero where :func:`rejected`, entry by entry: (m, 1), (m, n) -> (m, n).

    Of a row that is rejected the finite entries are zero by their weight. No reduction over the
    row stands between this and what a graph does with it, so that it is one pass with that.
    """
    return weights * xp.where(xp.equal(weights, 0) & ~xp.isfinite(rows), 0, rows)
