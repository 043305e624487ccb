"""The shapes that a structure declares, and everything that follows from them.

A structure writes the core shape of each parameter and of each saved array once, as
a string of dimension names: ``"n n"`` a matrix, ``"n"`` a vector, ``""`` a scalar, ``"n 2"`` a
matrix of two columns.
Gufunc signatures, rank checks, static shapes, ``infer_shape`` and the checks at run
time are all derived here. ``m`` is the number of residual rows, ``n`` the number of
observations; a name that first appears on a parameter is bound by it.
"""

import inspect
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.tensor.variable import TensorVariable

Dims = tuple[str, ...]


@dataclass(frozen=True)
class Signature:
    """Names and core shapes of the inputs and outputs of one Op of one structure.

    Attributes
    ----------
    owner : str
        Who is named in errors.
    inputs, outputs
    dtype_from : str
        The input whose dtype all outputs have.
    together : tuple of (str, tuple of str)
        Inputs that the kernel takes as one tuple of C-contiguous arrays, by the name of its
        argument.
    results : tuple
        What the kernel returns: names of outputs, or tuples of those that it returns as one
        sequence. By default all names.
    facts : tuple of (str, int)
        Arguments of the kernel that are known integers.
    memory : tuple of (str, str)
        Outputs that take the memory of an input. A kernel asks by the name of an output for memory
        to write it to, which is that of the input or new.
    """

    owner: str
    inputs: tuple[tuple[str, Dims], ...]
    outputs: tuple[tuple[str, Dims], ...]
    dtype_from: str
    together: tuple[tuple[str, tuple[str, ...]], ...] = ()
    results: tuple[str | tuple[str, ...], ...] = ()
    facts: tuple[tuple[str, int], ...] = ()
    memory: tuple[tuple[str, str], ...] = ()

    def reads(self, kernel: FunctionType) -> set[str]:
        """The inputs that a kernel takes."""
        arguments, together = kernel_arguments(kernel), dict(self.together)
        known = dict(self.facts).keys() | dict(self.outputs).keys() - dict(self.inputs).keys()
        return {name for x in arguments for name in together.get(x, (x,))} - known

    def call(self, kernel: FunctionType, named: dict):
        """Apply a kernel to arrays by the names of inputs; the outputs in order."""
        together, facts = dict(self.together), dict(self.facts)
        values = [
            tuple(named[x] for x in together[name])
            if name in together
            else facts[name]
            if name in facts
            else named[name]
            for name in kernel_arguments(kernel)
        ]
        flat = []
        for result, of in zip(kernel(*values), self.kernel_results, strict=True):
            flat += [result] if isinstance(of, str) else result
        return tuple(flat)

    @property
    def kernel_results(self):
        """:attr:`results`, by default the names of the outputs."""
        return self.results or tuple(name for name, _ in self.outputs)

    @cached_property
    def _fixed(self) -> dict[str, int]:
        """Dimensions that are integers."""
        dims = (dim for _, dims in (*self.inputs, *self.outputs) for dim in dims)
        return {dim: int(dim) for dim in dims if dim.isdecimal()}

    @cached_property
    def gufunc(self) -> str:
        def side(arguments):
            return ",".join(f"({','.join(dims)})" for _, dims in arguments)

        return f"{side(self.inputs)}->{side(self.outputs)}"

    def static_outputs(self, inputs: list[TensorVariable]) -> list[tuple[int | None, ...]]:
        """Static output shapes, after checking ranks (TypeError) and static sizes (ValueError)."""
        sizes, bound_by = dict(self._fixed), dict.fromkeys(self._fixed, "")
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
                    given = f", the size given by `{bound_by[dim]}`." if bound_by[dim] else "."
                    shape = variable.type.shape
                    raise ValueError(self.mismatch(name, dims, shape, dim, sizes[dim]) + given)
                bound_by.setdefault(dim, name)
        return [tuple(sizes.get(dim) for dim in dims) for _, dims in self.outputs]

    def mismatch(self, name, dims, shape, dim, expected) -> str:
        wanted = dim if dim in self._fixed else f"{dim} = {expected}"
        return (
            f"{self.owner}: `{name}` has shape {tuple(shape)} for ({', '.join(dims)}), "
            f"expected {wanted}"
        )

    def infer_outputs(self, input_shapes) -> list[tuple]:
        """Symbolic output shapes from symbolic input shapes."""
        sizes = dict(self._fixed)
        for (_, dims), shape in zip(self.inputs, input_shapes, strict=True):
            for dim, size in zip(dims, shape, strict=True):
                sizes.setdefault(dim, size)
        return [tuple(sizes[dim] for dim in dims) for _, dims in self.outputs]

    def concrete_outputs(self, inputs) -> list[tuple[int, ...]]:
        """Output shapes of concrete arrays, after checking that their sizes agree."""
        sizes = self._concrete_sizes(inputs)
        return [tuple(sizes[dim] for dim in dims) for _, dims in self.outputs]

    def _concrete_sizes(self, inputs) -> dict[str, int]:
        """The size of each dimension of the inputs, after checking that they agree."""
        sizes = dict(self._fixed)
        for (name, dims), array in zip(self.inputs, inputs, strict=True):
            for dim, size in zip(dims, array.shape, strict=True):
                if sizes.setdefault(dim, size) != size:
                    raise ValueError(self.mismatch(name, dims, array.shape, dim, sizes[dim]) + ".")
        return sizes

    def check_results(self, kernel: FunctionType, results) -> None:
        """Raise a TypeError where a kernel returns another number of arrays, or of other ranks."""
        names = ", ".join(str(of) for of in self.kernel_results)
        kernel_name = f"{self.owner}: the kernel `{kernel.__name__}` returns"
        if not isinstance(results, tuple) or len(results) != len(self.kernel_results):
            several = isinstance(results, tuple)
            found = f"{len(results)} results" if several else f"a {type(results).__name__}"
            raise TypeError(f"{kernel_name} {found}, expected the tuple ({names},).")
        dims_of = dict(self.outputs)
        for of, result in zip(self.kernel_results, results, strict=True):
            alone = isinstance(of, str)
            members = [(of, result)] if alone else zip(of, result, strict=True)
            for name, array in members:
                if np.ndim(array) != len(dims_of[name]):
                    raise TypeError(
                        f"{kernel_name} `{name}` of shape {np.shape(array)}, expected "
                        f"({', '.join(dims_of[name])})."
                    )

    def check_sizes(self, kernel: FunctionType, inputs, results) -> None:
        """Raise a ValueError where an array that a kernel returns has another size."""
        sizes = self._concrete_sizes(inputs)
        results = results if isinstance(results, tuple) else (results,)
        for (name, dims), array in zip(self.outputs, results, strict=True):
            # A dimension that no input has, as of a product, is what it is.
            shape = tuple(map(sizes.setdefault, dims, array.shape))
            if array.shape != shape:
                raise ValueError(
                    f"{self.owner}: the kernel `{kernel.__name__}` returns `{name}` of shape "
                    f"{array.shape}, expected ({', '.join(dims)}) = {shape}."
                )

    def size_expressions(self) -> dict[str, str]:
        """A Python expression of the size of each dimension, from the inputs."""
        sizes = {dim: dim for dim in self._fixed}
        for name, dims in self.inputs:
            for axis, dim in enumerate(dims):
                sizes.setdefault(dim, f"{name}.shape[{axis}]")
        return sizes

    def size_conditions(self) -> list[tuple[str, str]]:
        """Python conditions of a size mismatch, each with its message, for compiled wrappers."""
        bound, shapes, conditions = self.size_expressions(), dict(self.inputs), []
        for name, dims in self.inputs:
            for axis, dim in enumerate(dims):
                size, first = f"{name}.shape[{axis}]", bound[dim]
                if dim in self._fixed:
                    message = (
                        f"{self.owner}: the size of `{name}` ({', '.join(dims)}) is not {dim}, as "
                        "declared"
                    )
                    conditions.append((f"{size} != {dim}", message))
                elif first != size:
                    other = first.partition(".")[0]
                    message = (
                        f"{self.owner}: the sizes of `{name}` ({', '.join(dims)}) and `{other}` "
                        f"({', '.join(shapes[other])}) disagree in {dim}; they must be equal"
                    )
                    conditions.append((f"{size} != {first}", message))
        return conditions


def kernel_arguments(kernel: FunctionType) -> list[str]:
    """The arguments of a kernel, by name."""
    return list(inspect.signature(kernel).parameters)


def common_float(*inputs) -> list[TensorVariable]:
    """The inputs as tensors of one floating dtype; integers become ``floatX``."""
    tensors = [pt.as_tensor_variable(x) for x in inputs]
    dtypes = [x.dtype if x.dtype.startswith("float") else config.floatX for x in tensors]
    if any(x.dtype.startswith("complex") for x in tensors):
        raise TypeError("complex covariances and residuals are not supported; pass real arrays.")
    dtype = max(("float32", *dtypes), key=lambda name: np.dtype(name).itemsize)
    return [x if x.dtype == dtype else x.astype(dtype) for x in tensors]
