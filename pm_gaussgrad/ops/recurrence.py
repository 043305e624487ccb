r"""First-order linear recurrences, for draws from Markov structures.

x_t = a_t x_{t-1} + u_t with x_0 = 0: the inverse of a lower bidiagonal matrix applied to u.
The cotangents are the recurrence run backwards,

    lambda_t = x_bar_t + a_{t+1} lambda_{t+1},    u_bar = lambda,    a_bar_t = lambda_t x_{t-1},

so the Op is closed under differentiation. (Giles, 2008, section 2.3.1, for L^-1 u.)
"""

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.blockwise import Blockwise

from pm_gaussgrad.ops.compiled_op import CompiledOp
from pm_gaussgrad.ops.signature import Signature

_ROWS = ("m", "n")
_SIGNATURE = Signature(
    "linear_recurrence",
    (("coefficient", _ROWS), ("increment", _ROWS)),
    (("state", _ROWS),),
    "increment",
)


def _recur(coefficient, increment):
    m, n = increment.shape
    state = np.empty((m, n), increment.dtype)
    for i in range(m):
        previous = 0.0
        for t in range(n):
            previous = coefficient[i, t] * previous + increment[i, t]
            state[i, t] = previous
    return (state,)


class LinearRecurrence(CompiledOp):
    """``(coefficient (m, n), increment (m, n)) -> state (m, n)``, row by row.

    The first coefficients are multiplied by zero.
    """

    __props__ = ()
    signature = _SIGNATURE
    kernel = staticmethod(_recur)

    def pullback(self, inputs, outputs, cotangents):
        coefficient, _ = inputs
        [state], [state_bar] = outputs, cotangents
        nothing = pt.zeros((state.shape[0], 1), dtype=state.dtype)
        following = pt.concatenate([nothing, coefficient[:, :0:-1]], axis=1)
        increment_bar = self(following, state_bar[:, ::-1])[:, ::-1]
        return [increment_bar * pt.concatenate([nothing, state[:, :-1]], axis=1), increment_bar]


def linear_recurrence(coefficient, increment):
    """x_t = a_t x_{t-1} + u_t along the last axis, x_0 = 0.

    Parameters
    ----------
    coefficient, increment : tensor_like, shape (..., n), the same for both
        a and u; the first coefficient has no effect.

    Returns
    -------
    TensorVariable, shape (..., n)
    """
    coefficient, increment = map(pt.as_tensor_variable, (coefficient, increment))
    if increment.type.ndim == 1:
        return LinearRecurrence()(coefficient[None], increment[None])[0]
    return Blockwise(LinearRecurrence())(coefficient, increment)
