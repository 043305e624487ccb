r"""Solutions with the precision matrix of sparse latents, differentiable: x = P^-1 r.

P = diag(R (x) I, Q) is that of effects in relative form, which is constant, and of fields.

With s = P^-1 x_bar, r_bar = s and Q_bar = -s x' on the pattern, both triangles of which count: a
graph of the same Op, so that it is closed under differentiation.

Source: Giles (2008), Collected matrix derivative results for forward and reverse mode algorithmic
differentiation, section 2.2.2.
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.tensor.blockwise import Blockwise

from pm_gaussgrad.kernels.sparse.prior import factorise_prior, solve_prior
from pm_gaussgrad.ops.batching import rows_last
from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.signature import Signature


def _solve(rows, values, between, index):
    constant = np.asarray(between, np.float64)
    factor = factorise_prior(np.asarray(values, np.float64), constant, index)
    solved = solve_prior(factor, constant, index, np.asarray(rows, np.float64))
    return (np.asarray(solved, rows.dtype),)


class SparseSolve(CompiledOp):
    """``(rows (m, p), values (q), between (u), precision (2, q), index (i)) -> (m, p)``."""

    __props__ = ()
    index_inputs = ("precision", "index")
    signature = Signature(
        "sparse solve",
        (
            ("rows", ("m", "p")),
            ("values", ("q",)),
            ("between", ("u",)),
            ("precision", ("2", "q")),
            ("index", ("i",)),
        ),
        (("solved", ("m", "p")),),
        "rows",
    )
    kernel = staticmethod(_solve)

    def connection_pattern(self, node):
        return [[True], [True], [False], [False], [False]]

    def pullback(self, inputs, outputs, cotangents):
        _, *given = inputs
        _, _, precision, _ = given
        [solved] = outputs
        row, column = precision[0], precision[1]
        rows_bar = self(cotangents[0], *given)
        lower = (rows_bar[:, row] * solved[:, column]).sum(axis=0)
        upper = (rows_bar[:, column] * solved[:, row]).sum(axis=0)
        values_bar = -pt.switch(pt.eq(row, column), lower, lower + upper)
        return [rows_bar, values_bar, *(DisconnectedType()() for _ in given[1:])]


def sparse_solve(rows, values, between, precision, index):
    """P^-1 r for each row r, (..., p) -> (..., p).

    Parameters
    ----------
    rows : tensor, shape (..., p)
    values : tensor, shape (..., q)
        Of the lower triangle of Q. Leading dimensions are batches, as of structures.
    between : tensor, shape (u)
        Constant: of the lower triangle of the precision of effects in relative form.
    precision : tensor of int, shape (2, q)
        The coefficients in whose row and column each value is.
    index : tensor of int, shape (i)
        Of :func:`pm_gaussgrad.kernels.sparse.arrangement.arrange`.
    """
    batch_ndim = values.type.ndim - 1
    rows, restore = rows_last(rows, batch_ndim)
    op = Blockwise(SparseSolve()) if batch_ndim else SparseSolve()
    return restore(op(rows, values, between, precision, index))
