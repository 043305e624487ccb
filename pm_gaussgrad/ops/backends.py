"""Registration of the backends: once, and only when a graph is compiled for one.

``import pymc`` loads neither numba nor jax, and neither does importing this package.
PyTensor's linkers ask the rewrite database for the rewrites tagged with their name, so
a rewrite that changes nothing, tagged ``numba`` or ``jax``, is run just before a graph
is handed to that backend; it imports the dispatch rules.
"""

from importlib import import_module

from pytensor.compile.mode import optdb
from pytensor.graph.rewriting.basic import GraphRewriter


class LoadDispatch(GraphRewriter):
    """Import a module of dispatch rules; leaves the graph as it is."""

    def __init__(self, module: str):
        self.module = module
        super().__init__()

    def add_requirements(self, fgraph):
        import_module(self.module)

    def apply(self, fgraph):
        pass


def register_backends() -> None:
    """Let the linkers find the dispatch rules of this package."""
    for backend in ("numba", "jax"):
        optdb.register(
            f"pm_gaussgrad_{backend}_dispatch",
            LoadDispatch(f"pm_gaussgrad.ops.{backend}_dispatch"),
            backend,
            position=100,
        )
