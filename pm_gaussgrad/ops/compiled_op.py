"""Ops whose work is one compiled kernel."""

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from pm_gaussgrad.ops.backends.loading import DispatchTravels
from pm_gaussgrad.ops.compiled import compiled_kernel
from pm_gaussgrad.ops.signature import Signature, common_float


class CompiledOp(DispatchTravels, Op):
    """An Op of floating arrays with a kernel, from which ``perform`` and numba's linker follow.

    Attributes
    ----------
    signature : Signature
        Names and core shapes of inputs and outputs.
    kernel : function
        Of arrays; its arguments are inputs of the signature, by name. It returns a tuple.
    zero_inputs : tuple of str
        Inputs in which the kernel is linear; see
        :func:`pm_gaussgrad.ops.compiled.wrapper_source`.
    index_inputs : tuple of str
        Inputs that are positions, whose dtype stays what it is.
    """

    signature: Signature
    zero_inputs: tuple[str, ...] = ()
    index_inputs: tuple[str, ...] = ()

    @property
    def kernel(self):
        raise NotImplementedError

    @property
    def gufunc_signature(self) -> str:
        """Core dimensions, for ``Blockwise``."""
        return self.signature.gufunc

    def make_node(self, *inputs):
        inputs = [pt.as_tensor_variable(x) for x in inputs]
        names = [name for name, _ in self.signature.inputs]
        free = [i for i, name in enumerate(names) if name not in self.index_inputs]
        for i, x in zip(free, common_float(*(inputs[i] for i in free)), strict=True):
            inputs[i] = x
        dtype = inputs[names.index(self.signature.dtype_from)].dtype
        shapes = self.signature.static_outputs(inputs)
        return Apply(self, inputs, [pt.tensor(dtype=dtype, shape=shape) for shape in shapes])

    def infer_shape(self, node, input_shapes):
        return self.signature.infer_outputs(input_shapes)

    def compiled(self):
        """The kernel, of arrays: :func:`pm_gaussgrad.ops.compiled.compiled_kernel`."""
        return compiled_kernel(self.kernel, self.signature, self.zero_inputs)

    def evaluate(self, *inputs) -> tuple[np.ndarray, ...]:
        """Outputs from concrete arrays, by the compiled kernel."""
        outputs = self.compiled()(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def perform(self, node, inputs, output_storage):
        for storage, value in zip(output_storage, self.evaluate(*inputs), strict=True):
            storage[0] = value
