r"""What structures' forms of their Fisher information share.

For p directions with the derivatives dS_a of Sigma, P = Sigma^-1, S any root, S S' = Sigma,

    I_ab = 1/2 tr(P dS_a P dS_b) = 1/2 < W_a, W_b >_F,    W_a = S^-1 dS_a S'^-1.

A structure whose W_a has few distinct entries gives them as vectors w_a, entries that occur c times
scaled by sqrt(c); the information is then 1/2 w w', positive semidefinite however it is rounded.
Its ``information`` has *tangents*, the derivatives of the structure's own parameters, each (p, core
shape), in place of dS_a.

Sources: Bangs (1971), Array Processing with Generalized Beamformers (the trace formula); Magnus and
Neudecker (2019), Matrix Differential Calculus, 3rd ed., chapter 15.
"""

import math

import pytensor.tensor as pt

from pm_gaussgrad.ops import inner_products


def count_directions(x):
    """The number p, an int where it is known: JAX compiles no arithmetic of symbolic lengths."""
    static = x.type.shape[0]
    return x.shape[0] if static is None else static


def total_size(x):
    """The number of entries, an int where it is known."""
    static = x.type.shape
    return x.size if None in static else math.prod(static)


def _flat(x):
    """(p, ...) -> (p, k)."""
    if x.type.ndim == 1:
        return x[:, None]
    return x if x.type.ndim == 2 else x.reshape((count_directions(x), -1))


def gram(left, right):
    """Inner products of entries, (p, ...), (p, ...) -> (p, p)."""
    return inner_products(_flat(left), _flat(right))


def half_gram(*vectors):
    """1/2 sum of w w'."""
    return sum(gram(w, w) for w in vectors) / 2


def whitened(factor, tangent):
    """L^-1 T L'^-1 for symmetric T, (n, n), (p, n, n) -> (p, n, n)."""
    half = solve_stack(factor, tangent)
    return solve_stack(factor, half.mT)


def solve_stack(factor, stack):
    """L^-1 T for each T: one solve for the columns of all."""
    n, p = factor.shape[-1], count_directions(stack)
    columns = stack.transpose(1, 0, 2).reshape((n, -1))
    solved = pt.linalg.solve_triangular(factor, columns, lower=True, b_ndim=2)
    return solved.reshape((n, p, n)).transpose(1, 0, 2)
