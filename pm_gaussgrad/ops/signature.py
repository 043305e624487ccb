"""The shapes that a structure declares, and everything that follows from them.

A structure writes the core shape of each parameter and of each saved array once, as
a string of dimension names: ``"n n"`` a matrix, ``"n"`` a vector, ``""`` a scalar.
Gufunc signatures, rank checks, static shapes, ``infer_shape`` and the checks at run
time are all derived here. ``m`` is the number of residual rows, ``n`` the number of
observations; a name that first appears on a parameter is bound by it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.tensor.variable import TensorVariable

Dims = tuple[str, ...]


@dataclass(frozen=True)
class Signature:
    """Names and core shapes of the inputs and outputs of one Op of one structure.

    ``dtype_from`` names the input whose dtype all outputs have.
    """

    owner: str
    inputs: tuple[tuple[str, Dims], ...]
    outputs: tuple[tuple[str, Dims], ...]
    dtype_from: str

    @cached_property
    def gufunc(self) -> str:
        def side(arguments):
            return ",".join(f"({','.join(dims)})" for _, dims in arguments)

        return f"{side(self.inputs)}->{side(self.outputs)}"

    def static_outputs(self, inputs: list[TensorVariable]) -> list[tuple[int | None, ...]]:
        """Static output shapes, after checking ranks (TypeError) and static sizes (ValueError)."""
        sizes: dict[str, int] = {}
        bound_by: dict[str, str] = {}
        for (name, dims), variable in zip(self.inputs, inputs, strict=True):
            if variable.type.ndim != len(dims):
                raise TypeError(
                    f"{self.owner}: `{name}` has {variable.type.ndim} dimension(s), expected "
                    f"{len(dims)}, of shape ({', '.join(dims)}). Leading batch dimensions are "
                    "handled by the methods of gg.cov structures and by gg.MvNormal."
                )
            for dim, size in zip(dims, variable.type.shape, strict=True):
                if size is None:
                    continue
                if sizes.setdefault(dim, size) != size:
                    raise ValueError(
                        self.mismatch(name, dims, variable.type.shape, dim, sizes[dim])
                        + f", the size given by `{bound_by[dim]}`."
                    )
                bound_by.setdefault(dim, name)
        return [tuple(sizes.get(dim) for dim in dims) for _, dims in self.outputs]

    def mismatch(self, name, dims, shape, dim, expected) -> str:
        return (
            f"{self.owner}: `{name}` has shape {tuple(shape)} for ({', '.join(dims)}), "
            f"expected {dim} = {expected}"
        )

    def infer_outputs(self, input_shapes) -> list[tuple]:
        """Symbolic output shapes from symbolic input shapes."""
        sizes = {}
        for (_, dims), shape in zip(self.inputs, input_shapes, strict=True):
            for dim, size in zip(dims, shape, strict=True):
                sizes.setdefault(dim, size)
        return [tuple(sizes[dim] for dim in dims) for _, dims in self.outputs]

    def concrete_outputs(self, inputs) -> list[tuple[int, ...]]:
        """Output shapes of concrete arrays, after checking that their sizes agree."""
        sizes: dict[str, int] = {}
        for (name, dims), array in zip(self.inputs, inputs, strict=True):
            for dim, size in zip(dims, array.shape, strict=True):
                if sizes.setdefault(dim, size) != size:
                    raise ValueError(self.mismatch(name, dims, array.shape, dim, sizes[dim]) + ".")
        return [tuple(sizes[dim] for dim in dims) for _, dims in self.outputs]

    def size_expressions(self) -> dict[str, str]:
        """A Python expression of the size of each dimension, from the inputs."""
        sizes: dict[str, str] = {}
        for name, dims in self.inputs:
            for axis, dim in enumerate(dims):
                sizes.setdefault(dim, f"{name}.shape[{axis}]")
        return sizes

    def size_conditions(self) -> list[tuple[str, str]]:
        """Python conditions of a size mismatch, each with its message, for compiled wrappers."""
        bound, shapes = self.size_expressions(), dict(self.inputs)
        conditions = []
        for name, dims in self.inputs:
            for axis, dim in enumerate(dims):
                size, first = f"{name}.shape[{axis}]", bound[dim]
                if first != size:
                    other = first.partition(".")[0]
                    message = (
                        f"{self.owner}: the sizes of `{name}` ({', '.join(dims)}) and `{other}` "
                        f"({', '.join(shapes[other])}) disagree in {dim}; they must be equal"
                    )
                    conditions.append((f"{size} != {first}", message))
        return conditions


def common_float(*inputs) -> list[TensorVariable]:
    """The inputs as tensors of one floating dtype; integers become ``floatX``."""
    tensors = [pt.as_tensor_variable(x) for x in inputs]
    dtypes = [x.dtype if x.dtype.startswith("float") else config.floatX for x in tensors]
    if any(x.dtype.startswith("complex") for x in tensors):
        raise TypeError("complex covariances and residuals are not supported; pass real arrays.")
    dtype = max(("float32", *dtypes), key=lambda name: np.dtype(name).itemsize)
    return [x if x.dtype == dtype else x.astype(dtype) for x in tensors]
