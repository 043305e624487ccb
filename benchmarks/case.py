"""What a row of the registry is made of."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytensor
from pymc.blocking import DictToArrayBijection
from pymc.pytensorf import compile as compile_function
from pymc.pytensorf import rewrite_pregrad

Evaluate = Callable[..., tuple]


@dataclass(frozen=True)
class At:
    """A size at which a case is measured, and what is expected there.

    Attributes
    ----------
    n, rows
        Observations in a row, and rows (or batches).
    bar
        The least acceptable ratio peer / ours, if there is one.
    floor_bar
        The largest acceptable ratio ours / floor, if there is one.
    peer
        Whether the peer is measured too; not where it would take too long.
    """

    n: int
    rows: int = 1
    bar: float | None = None
    floor_bar: float | None = None
    peer: bool = True


@dataclass(frozen=True)
class Problem:
    """Two implementations of one value and gradient, and the point at which to compare them.

    ``ours`` and ``peer`` compile: each returns a function of ``arguments`` that returns the value
    and then gradients. ``floor`` returns a function without arguments that does the least work
    that any implementation has to do.
    """

    ours: Callable[[], Evaluate]
    peer: Callable[[], Evaluate]
    arguments: tuple
    floor: Callable[[], Callable[[], object]] | None = None


@dataclass(frozen=True)
class Case:
    """One row of the registry: ``build(n, rows)`` returns a :class:`Problem`.

    ``exponent`` is that of time in the size that varies, as the structure's cost says.
    """

    name: str
    title: str
    peer: str
    build: Callable[[int, int], Problem]
    sizes: tuple[At, ...]
    value_rtol: float = 1e-8
    gradient_rtol: float = 1e-8
    exponent: float | None = None


def of_models(model: Callable, ours, peer, floor=None) -> Problem:
    """Take the function that PyMC's samplers call, for ``model(ours)`` and ``model(peer)``.

    Parameters
    ----------
    model
        Takes a likelihood, which is whatever ``model`` makes of it, and returns a ``pm.Model``.
        The free variables must be the same for both likelihoods.
    ours, peer
        The likelihoods.
    floor
        As in :class:`Problem`.
    """

    def compiler(likelihood):
        return lambda: model(likelihood).logp_dlogp_function(ravel_inputs=True)

    return Problem(compiler(ours), compiler(peer), (generic_point(model(ours)),), floor)


def generic_point(model) -> np.ndarray:
    """Move the model's initial point by different amounts in all directions."""
    start = DictToArrayBijection.map(model.initial_point()).data
    return start + 0.3 * np.sin(1.0 + np.arange(start.size))


def compile_value_and_gradient(inputs, logp, wrt) -> Evaluate:
    """Compile as PyMC does: rewrites before the gradient, its own rewrites after it."""
    logp = rewrite_pregrad(logp)
    return compile_function(inputs, [logp, *pytensor.grad(logp, wrt)])
