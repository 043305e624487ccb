"""``gg.accelerated``: log densities of models as they are, evaluated by this package."""

import contextlib
from contextvars import ContextVar

from pymc.logprob.rewriting import specialization_ir_rewrites_db
from pytensor.graph.rewriting.basic import node_rewriter

from pm_gaussgrad.adopt.accelerate.variables import (
    REPLACED,
    DeclinedError,
    is_replaced,
    replacement,
)

_always = False
_within = ContextVar("accelerated", default=None)


class accelerated(contextlib.ContextDecorator):  # noqa: N801 - a context, as contextlib's own
    """Evaluate multivariate normal variables of any model by this package, within a context.

    ``with gg.accelerated(): pm.sample(model=model)`` samples a model that others have built, by
    bambi for example, with the log densities of :func:`gg.accelerate`. Draws are as before.

    ``gg.accelerated.on()`` does so from then on, everywhere, and ``gg.accelerated.off()`` ends it.

    Parameters
    ----------
    active : bool, default True
        False is a context in which nothing is replaced.

    Notes
    -----
    PyMC asks for a log density when a function of a model is made: a sampler that is made inside
    goes on outside. ``pm.logp`` of a single variable is not changed. Of ``pm.CAR`` the log density
    is that of PyMC, without its constant.
    """

    def __init__(self, active=True):
        self.active, self._tokens = bool(active), []

    def __enter__(self):
        self._tokens.append(_within.set(self.active))
        return self

    def __exit__(self, *raised):
        _within.reset(self._tokens.pop())

    @staticmethod
    def on() -> None:
        """Replace everywhere outside of contexts that say otherwise."""
        global _always
        _always = True

    @staticmethod
    def off() -> None:
        """Replace nothing outside of contexts that say otherwise."""
        global _always
        _always = False


def is_active() -> bool:
    """Whether log densities are replaced here."""
    within = _within.get()
    return _always if within is None else within


@node_rewriter(REPLACED)
def evaluate_by_structure(fgraph, node):
    """A variable of PyMC -> one with a structure, whose log density PyMC then asks for."""
    if not (is_active() and is_replaced(node.op)):
        return None
    try:
        return replacement(node).node.outputs
    except DeclinedError:
        return None


specialization_ir_rewrites_db.register(
    "pm_gaussgrad_evaluate_by_structure", evaluate_by_structure, "basic"
)
