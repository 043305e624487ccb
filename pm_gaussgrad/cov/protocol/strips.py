r"""Fisher information of any structure whose rows can be read: n of its solves a direction.

With P = Sigma^-1 and dP_b = -P dS_b P,

    I_ab = 1/2 tr(P dS_a P dS_b) = -1/2 < dS_a, dP_b >_F.

Both are taken in strips of c rows: those of dS_a are the derivative of rows of Sigma in forward
mode (``Covariance.rows``); those of P are the solutions of unit rows, and what < dS_a, dP_b > needs
of dP_b for all b is the gradient of their inner product with the strip of dS_a held fixed, by the
structure's own pullback. Nothing larger than a strip is formed.

Source: Bangs (1971), Array Processing with Generalized Beamformers (the trace formula).
"""

import warnings

import pytensor
import pytensor.tensor as pt
from pytensor.gradient import grad
from pytensor.graph.basic import Constant, Variable

from pm_gaussgrad.cov.protocol.information import count_directions, total_size
from pm_gaussgrad.cov.protocol.products import rows_times, unit_rows
from pm_gaussgrad.ops.tangents import forward_derivative

# Rows of a strip, where the structure itself is not larger.
_FEWEST = 64


def by_strips(cov, tangents):
    """1/2 tr(P dS_a P dS_b), shape (p, p), from rows of the covariance.

    Parameters
    ----------
    cov : Covariance
        Without batch dimensions, of known size.
    tangents : list of TensorVariable
        Derivatives of ``cov.parameters`` in p directions, (p, core shape); None for index data.

    Raises
    ------
    NotImplementedError
        If the rows of the structure have no form.

    Notes
    -----
    p n solves at the structure's cost, and the gradients of as many; the factorisation of a
    structure that has one is repeated for each strip and direction. A strip is 64 rows, or as
    many as fill the memory that the structure takes itself. Memory p^2 for each strip beside it.
    """
    information = _over_strips(_strip, cov, tangents) / 2
    return (information + information.T) / 2


def scale_by_strips(cov, tangents, shares):
    """sum_i (t_b)_i sum_j P_ij (dS_a + S diag(t_a) / 2)_ij, shape (p, p), for any structure.

    What the scales of a covariance add to its information, with the transpose and t_a't_b: there
    dS_a + diag(t_a) S + S diag(t_a) takes the place of dS_a.

    Parameters
    ----------
    cov, tangents
        As in :func:`by_strips`.
    shares : TensorVariable, shape (p, n)
        The derivatives t_a of the logarithms of the scales.

    Notes
    -----
    p n solves, without gradients.
    """
    return _over_strips(_scale_strip, cov, tangents, shares)


def times_by_strips(cov, rows):
    """Sigma r for each row r, (..., n) -> (..., n), from rows of the covariance.

    Parameters
    ----------
    cov : Covariance
        Without batch dimensions, of known size, unless it has a parameter of shape (n, n).
    rows : TensorVariable, shape (..., n)

    Raises
    ------
    NotImplementedError
        If the rows of the structure have no form, or it has batch dimensions.
    """
    if "n n" in cov.structure.parameter_shapes.values():
        return rows_times(rows, cov.to_dense())  # no larger than the parameter
    if cov.batch_ndim:
        raise NotImplementedError(
            f"{cov.label}: products with a batch of covariances have no form here, and nothing is "
            "made dense unasked. Define times(rows) in the class, or write "
            "gg.cov.Dense(cov.to_dense())."
        )
    n = cov.size
    if isinstance(n, int) and n <= _FEWEST:
        return rows_times(rows, cov.rows(pt.arange(n)))
    given = [rows, *cov.parameters, n]
    symbols = [x for x in given if isinstance(x, Variable) and not isinstance(x, Constant)]

    def step(i, *inner):
        inside = dict(zip(symbols, inner, strict=True))
        rows, *parameters, n = (inside.get(x, x) if isinstance(x, Variable) else x for x in given)
        positions = pt.minimum(i * _FEWEST + pt.arange(_FEWEST), n - 1)
        structure = cov.structure.from_parameters(*parameters, size=n)
        return rows_times(rows, structure.rows(positions).T)

    strips = pt.moveaxis(_repeat(step, -(-n // _FEWEST), symbols), 0, -2)
    return pt.join_dims(strips, start_axis=strips.type.ndim - 2, n_axes=2)[..., :n]


def _over_strips(strip, cov, tangents, *others):
    """The sum over strips of their row a, for each direction a: (p, p)."""
    n, p = cov.size, count_directions(next(x for x in (*others, *tangents) if x is not None))
    height = _smaller(_larger(_memory(cov, n) // _larger(n, 1), _FEWEST), n)
    strips = -(-n // _larger(height, 1))
    moving = [x for x in tangents if x is not None]
    given = [*cov.parameters, *moving, *others, n, p, height]
    symbols = [x for x in given if isinstance(x, Variable) and not isinstance(x, Constant)]

    def step(i, *inner):
        inside = dict(zip(symbols, inner, strict=True))
        *own, n, p, height = (inside.get(x, x) if isinstance(x, Variable) else x for x in given)
        parameters, own = own[: len(tangents)], own[len(tangents) :]
        remaining, more = iter(own[: len(moving)]), own[len(moving) :]
        moves = [None if x is None else next(remaining) for x in tangents]
        structure = cov.structure.from_parameters(*parameters, size=n)
        positions = (i // p) * height + pt.arange(height)
        return strip(structure, moves, positions, i % p, *more)

    return _repeat(step, p * strips, symbols).reshape((strips, p, p)).sum(axis=0)


def _repeat(step, times, symbols):
    """What a step returns for each of 0, 1, ..., joined."""
    with warnings.catch_warnings():
        # PyTensor means to drop `mode`, and compiles what a loop repeats as C without it, for
        # minutes, where nothing around it is compiled. numba and JAX go by the mode around it.
        warnings.simplefilter("ignore", FutureWarning)
        return pytensor.scan(
            step,
            pt.arange(times),
            non_sequences=symbols,
            strict=True,
            return_updates=False,
            mode="FAST_COMPILE",
        )


def _strip(cov, tangents, positions, a):
    """What a strip adds to row a of twice the information, (p,)."""
    positions, rows, moved = _moved(cov, tangents, positions, a)
    n = cov.size
    pairs = [(x, dx) for x, dx in zip(cov.parameters, tangents, strict=True) if dx is not None]
    parameters, moves = zip(*pairs, strict=True)
    inner = (moved * cov.solve(unit_rows(positions, n, rows.dtype))).sum()
    bars = grad(inner, parameters, consider_constant=[moved], disconnected_inputs="ignore")
    # < dx, bar > for each direction: minus the part of < dS_a, dP_b > that the strip has.
    products = [(dx * bar).reshape((dx.shape[0], -1)) for dx, bar in zip(moves, bars, strict=True)]
    return -sum(x.sum(axis=1) for x in products)


def _scale_strip(cov, tangents, positions, a, shares):
    """What a strip adds to row a of :func:`scale_by_strips`, (p,)."""
    inside = pt.lt(positions, cov.size)[:, None]
    positions, rows, moved = _moved(cov, tangents, positions, a)
    moved = moved + pt.switch(inside, rows, 0) * shares[a] / 2
    solved = cov.solve(unit_rows(positions, cov.size, rows.dtype))
    return shares[:, positions] @ (moved * solved).sum(axis=1)


def _moved(cov, tangents, positions, a):
    """Positions within the structure, its rows there, and what these move by in direction a.

    Rows beyond the last do not move.
    """
    inside = pt.lt(positions, cov.size)[:, None]
    positions = pt.minimum(positions, cov.size - 1)
    rows = getattr(cov, "proper", cov).rows(positions)
    pairs = [(x, dx[a]) for x, dx in zip(cov.parameters, tangents, strict=True) if dx is not None]
    moved = forward_derivative(rows, *map(list, zip(*pairs, strict=True))) if pairs else 0
    return positions, rows, pt.switch(inside, moved, 0)


def _memory(cov, n):
    """Numbers that the structure takes: its parameters, and a matrix where its kernels save one."""
    if parts := getattr(cov, "parts", None):
        sizes = cov.sizes
        return sum(_memory(part, size) for part, size in zip(parts, sizes, strict=True))
    saved = [dims.split() for dims in getattr(cov, "saved_shapes", {}).values()]
    matrix = n * n if ["n", "n"] in saved else 0
    return sum(map(total_size, cov.parameters)) + matrix


def _larger(x, y):
    known = isinstance(x, int) and isinstance(y, int)
    return max(x, y) if known else pt.maximum(x, y)


def _smaller(x, y):
    known = isinstance(x, int) and isinstance(y, int)
    return min(x, y) if known else pt.minimum(x, y)
