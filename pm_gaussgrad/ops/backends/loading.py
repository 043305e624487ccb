"""Registration of the backends: once, and only when a graph is compiled for one.

``import pymc`` loads neither numba nor jax, and neither does importing this package.
PyTensor's linkers ask the rewrite database for the rewrites tagged with their name, so
a rewrite that changes nothing, tagged ``numba`` or ``jax``, is run just before a graph
is handed to that backend; it imports the dispatch rules.

A compiled function that is unpickled in another process is linked there without being rewritten
again. So the Ops take the rules along: where one is unpickled, the rules are imported that were
loaded where it was pickled.
"""

import sys
from importlib import import_module

from pytensor.compile.mode import optdb
from pytensor.graph.rewriting.basic import GraphRewriter

_DISPATCH = {name: f"pm_gaussgrad.ops.backends.{name}_rules" for name in ("numba", "jax")}


class DispatchTravels:
    """An Op in whose pickles the dispatch rules are named that it was compiled with."""

    def __getstate__(self):
        return [name for name, module in _DISPATCH.items() if module in sys.modules], vars(self)

    def __setstate__(self, state):
        backends, attributes = state
        for name in backends:
            import_module(_DISPATCH[name])
        vars(self).update(attributes)


class LoadDispatch(GraphRewriter):
    """Import a module of dispatch rules; leaves the graph as it is."""

    def __init__(self, module: str):
        self.module = module
        super().__init__()

    def add_requirements(self, fgraph):
        import_module(self.module)

    def apply(self, fgraph):
        pass


def has_ops(fgraph) -> bool:
    """Whether a graph has Ops of this package."""
    ops = (node.op for node in fgraph.apply_nodes)
    return any(isinstance(getattr(op, "core_op", op), DispatchTravels) for op in ops)


def register_backends() -> None:
    """Let the linkers find the dispatch rules of this package."""
    for backend, module in _DISPATCH.items():
        optdb.register(
            f"pm_gaussgrad_{backend}_dispatch", LoadDispatch(module), backend, position=100
        )
