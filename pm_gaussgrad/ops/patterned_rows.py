r"""Rows that miss different entries of one small covariance, as one Op and its pullback.

With o_i the entries of row i and S_i the submatrix of Sigma at them,

    q_i = r_i' S_i^-1 r_i,    l_i = log|S_i|,    alpha_i = S_i^-1 r_i  at o_i, else 0,

    r_bar_i = 2 q_bar_i alpha_i,
    Sigma_bar = - sum_i q_bar_i alpha_i alpha_i' + sum_i l_bar_i E_i S_i^-1 E_i',

E_i the columns of the identity at o_i. Rows of one pattern share a factor. Sigma is symmetric.
Second derivatives, and those through alpha, are those of the same operations in PyTensor.
"""

import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType

from pm_gaussgrad.kernels import patterned_rows as kernels
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.definition import is_disconnected, pullback_by_definition
from pm_gaussgrad.ops.polarisation import weighted
from pm_gaussgrad.ops.signature import Signature

_OWNER = "rows with missing entries"
_INDEX = (("entries", ("p", "w")), ("pattern", ("m",)))
_SOLVED = (("alpha", ("m", "n")), ("factors", ("p", "w", "w")))
_COTANGENTS = (("quad_bar", ("m",)), ("logdet_bar", ("m",)))


class PatternedRows(CompiledOp):
    """``(residual, matrix, entries, pattern) -> quad (m), logdet (m), alpha (m, n), factors``.

    As :func:`pm_gaussgrad.kernels.patterned_rows.patterned_rows` says.
    """

    __props__ = ()
    index_inputs = ("entries", "pattern")
    signature = Signature(
        _OWNER,
        (("residual", ("m", "n")), ("matrix", ("n", "n")), *_INDEX),
        (("quad", ("m",)), ("logdet", ("m",)), *_SOLVED),
        "residual",
    )
    kernel = staticmethod(kernels.patterned_rows)

    def connection_pattern(self, node):
        return [[True, False, True, True], [True] * 4, [False] * 4, [False] * 4]

    def pullback(self, inputs, outputs, cotangents):
        *_, entries, pattern = inputs
        quad, logdet, alpha, factors = outputs
        quad_bar, logdet_bar, *of_solved = cotangents
        bars = [DisconnectedType()() for _ in range(2)]
        if not (is_disconnected(quad_bar) and is_disconnected(logdet_bar)):
            quad_bar = quad.zeros_like() if is_disconnected(quad_bar) else quad_bar
            logdet_bar = logdet.zeros_like() if is_disconnected(logdet_bar) else logdet_bar
            weights = quad_bar[:, None]
            pull = PatternedRowsPullback()
            bars = [
                2 * weighted(pt, weights, alpha),
                pull(entries, pattern, alpha, factors, quad_bar, logdet_bar),
            ]
        if not all(map(is_disconnected, of_solved)):
            nothing = [DisconnectedType()() for _ in range(2)]
            more = pullback_by_definition(definition, inputs, [*nothing, *of_solved], wrt=[0, 1])
            bars = [_sum_of(*pair) for pair in zip(bars, more, strict=True)]
        return [*bars, DisconnectedType()(), DisconnectedType()()]


class PatternedRowsPullback(CompiledOp):
    """``(entries, pattern, alpha, factors, quad_bar (m), logdet_bar (m)) -> matrix_bar (n, n)``.

    A function of the residual and the matrix through alpha and the factors.
    """

    __props__ = ()
    index_inputs = ("entries", "pattern")
    signature = Signature(
        f"{_OWNER} (pullback)",
        (*_INDEX, *_SOLVED, *_COTANGENTS),
        (("matrix_bar", ("n", "n")),),
        "alpha",
    )
    kernel = staticmethod(kernels.patterned_rows_pullback)

    def connection_pattern(self, node):
        return [[False], [False], [True], [True], [True], [True]]

    def pullback(self, inputs, outputs, cotangents):
        free = [2, 3, 4, 5]
        bars = pullback_by_definition(pullback_definition, inputs, cotangents, wrt=free)
        return [DisconnectedType()(), DisconnectedType()(), *bars]


def _sum_of(a, b):
    return b if is_disconnected(a) else a if is_disconnected(b) else a + b


def _selected(entries, n, dtype):
    """E_p' for each pattern, (p, w, n), zero in rows that stand for no entry."""
    return pt.eq(entries[:, :, None], pt.arange(n)).astype(dtype)


def definition(residual, matrix, entries, pattern):
    """The outputs of :class:`PatternedRows` in PyTensor's own operations."""
    selected = _selected(entries, residual.shape[1], residual.dtype)
    filled = pt.lt(entries, 0)[:, :, None] & pt.eye(entries.shape[1], dtype="bool")
    blocks = selected @ matrix @ selected.mT + filled.astype(residual.dtype)
    factors = pt.linalg.cholesky(blocks, lower=True)
    own, selects = factors[pattern], selected[pattern]
    columns = (selects * residual[:, None, :]).sum(axis=-1)
    white = pt.linalg.solve_triangular(own, columns, lower=True, b_ndim=1)
    solved = pt.linalg.solve_triangular(own, white, lower=True, trans=1, b_ndim=1)
    alpha = (selects * solved[:, :, None]).sum(axis=1)
    logdet = 2 * pt.log(pt.diagonal(factors, axis1=-2, axis2=-1)).sum(axis=-1)
    # A copy: what has a known gradient is not differentiated as a step to other outputs.
    return [(white**2).sum(axis=-1), logdet[pattern], alpha, pt.tensor_copy(factors)]


def pullback_definition(entries, pattern, alpha, factors, quad_bar, logdet_bar):
    """The output of :class:`PatternedRowsPullback` in PyTensor's own operations."""
    numbers, identity = pt.arange(entries.shape[0]), pt.eye(entries.shape[1], dtype=alpha.dtype)
    weights = (pt.eq(pattern, numbers[:, None]) * logdet_bar).sum(axis=1)
    inverse = pt.linalg.solve_triangular(factors, identity, lower=True, b_ndim=2)
    half = inverse @ _selected(entries, alpha.shape[1], alpha.dtype)
    return [
        (weights[:, None, None] * (half.mT @ half)).sum(axis=0)
        - (quad_bar[:, None] * alpha).T @ alpha
    ]


def patterned_rows(residual, matrix, entries, pattern):
    """quad (m), logdet (m) and alpha (m, n) of rows, differentiable."""
    return PatternedRows()(residual, matrix, entries, pattern)[:3]
