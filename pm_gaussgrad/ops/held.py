"""Large constants beside compiled code, not in it.

numba keeps no function on disk in which a large array is embedded, and takes long over one that is
smaller: a model with the analysis of a sparse matrix would be compiled anew in every process. So
graphs that are compiled for numba end with a rewrite that puts an Op without inputs in the place of
large constants. Its compiled form reads the array by a name, that of its content, which means the
same in every process that has linked the Op (:mod:`pm_gaussgrad.ops.backends.numba_held`); the Op
takes the array along where it is pickled.
"""

import hashlib

import numpy as np
from pytensor.compile.mode import optdb
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import GraphRewriter
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.type import TensorType
from pytensor.tensor.variable import TensorConstant

from pm_gaussgrad.ops.backends.loading import DispatchTravels
from pm_gaussgrad.ops.batched import Batched
from pm_gaussgrad.ops.compiled_op import CompiledOp

# In bytes: of smaller arrays a copy in compiled code does not matter.
_LARGE = 2**16
# Arrays by their content, each as long as the process: compiled code knows where they are.
_HELD: dict[str, np.ndarray] = {}


class Held(DispatchTravels, Op):
    """``() -> array``, a constant."""

    __props__ = ("digest",)

    def __init__(self, array: np.ndarray):
        array = np.ascontiguousarray(array)
        content = hashlib.sha256(array)
        content.update(f"{array.dtype}{array.shape}".encode())
        self.digest = content.hexdigest()
        self.array = _HELD.setdefault(self.digest, array)

    def __setstate__(self, state):
        super().__setstate__(state)
        self.array = _HELD.setdefault(self.digest, self.array)

    def make_node(self):
        type_ = TensorType(self.array.dtype, shape=self.array.shape)
        return Apply(self, [], [type_()])

    def do_constant_folding(self, fgraph, node):
        return False

    def infer_shape(self, node, input_shapes):
        return [self.array.shape]

    def perform(self, node, inputs, output_storage):
        output_storage[0][0] = self.array


class HoldConstants(GraphRewriter):
    """Replace the large constants that kernels and elementwise Ops are given."""

    def add_requirements(self, fgraph):
        pass

    def apply(self, fgraph):
        held = {}
        for node in fgraph.toposort():
            if not isinstance(node.op, CompiledOp | Batched | Elemwise):
                continue
            for i, x in enumerate(node.inputs):
                if isinstance(x, TensorConstant) and x.data.nbytes > _LARGE:
                    if x not in held:
                        held[x] = Held(x.data)()
                    fgraph.change_node_input(node, i, held[x], reason="hold_constants")


# When nothing works in place any more that did not before.
optdb.register("pm_gaussgrad_hold_constants", HoldConstants(), "numba", position=99)
