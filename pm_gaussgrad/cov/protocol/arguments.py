"""Users' arguments as floating tensors: every kind of real numbers, and errors for the others."""

from decimal import Decimal
from numbers import Real

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Constant, Variable
from pytensor.scalar import upcast
from pytensor.tensor.type import discrete_dtypes
from pytensor.tensor.variable import TensorVariable
from scipy.sparse import issparse

from pm_gaussgrad.cov.protocol.constants import check_within


def as_floats(owner: str, name: str, value) -> TensorVariable:
    """A user's argument as a floating tensor.

    Numbers of any byte order and precision, of pandas' and Python's own kinds, and (nested) lists
    and arrays of them and of tensors are accepted. Floating arrays and tensors keep their
    precision where PyTensor has it; the others take that of ``floatX``.

    Raises
    ------
    TypeError
        If it is not dense, not numbers, or not real.
    ValueError
        If it has masked or missing entries.
    """
    if np.ma.is_masked(value.data if isinstance(value, Constant) else value):
        raise ValueError(f"{owner}: `{name}` has masked entries, expected numbers; fill them in.")
    if isinstance(value, list | tuple) and _has_variables(value):
        return pt.stack([as_floats(owner, name, entry) for entry in value])
    if isinstance(value, Variable):
        tensor = _dense_tensor(owner, name, value)
    else:
        array = _as_array(owner, name, value)
        if isinstance(array, list):
            return as_floats(owner, name, array)
        tensor = pt.as_tensor_variable(array)
    if tensor.dtype.startswith(("int", "uint", "bool")):
        return tensor.astype(config.floatX)
    if not tensor.dtype.startswith("float"):
        raise _not_real(owner, name, tensor.dtype)
    return tensor


def as_constant(owner: str, name: str, value) -> np.ndarray:
    """A user's constant data as an array of real numbers, which objects of a data frame become.

    Raises
    ------
    TypeError
        If it is symbolic, sparse, not numbers, or not real.
    ValueError
        If it has masked or missing entries.
    """
    value = value.data if isinstance(value, Constant) else value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and not np.ma.is_masked(value):
        return np.asarray(value)
    tensor = as_floats(owner, name, value)
    if not isinstance(tensor, Constant):
        raise TypeError(f"{owner}: `{name}` is symbolic, expected constant data; pass an array.")
    return tensor.data


def as_multiple(owner: str, factor, dtype: str) -> TensorVariable:
    """A user's factor of a covariance, at least of the precision of a dtype.

    Raises
    ------
    TypeError
        If it is no scalar.
    ValueError
        If it is a negative constant.
    """
    factor = as_floats(owner, "scalar", factor)
    if factor.type.ndim:
        raise TypeError(
            f"{owner}: the factor has shape {factor.type.shape}, expected a scalar; for a standard "
            "deviation of each observation write gg.cov.Scaled(cov, scale)."
        )
    check_within(owner, "scalar", factor, 0, remedy="; no negative multiple of a covariance is one")
    # Constants such as 2.5 come as float32; their square root must not.
    return factor.astype(upcast(factor.dtype, dtype))


def named_dims_hint(value) -> str:
    """What to write in place of a variable of ``pymc.dims``, or of a list that has one."""
    if isinstance(value, list | tuple):
        return max(map(named_dims_hint, value), default="")
    named = isinstance(value, Variable) and hasattr(value, "dims")
    return "; of a variable of pymc.dims pass `.values`, the tensor without names" if named else ""


def _has_variables(value) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_variables, value))
    return isinstance(value, Variable)


def _dense_tensor(owner, name, value):
    if hasattr(value, "dims"):  # a variable of pymc.dims
        value = value.values
    kind = type(value).__name__
    if kind.startswith("Sparse"):
        raise TypeError(
            f"{owner}: `{name}` is a {kind}, expected a dense tensor; pass "
            "pytensor.sparse.dense_from_sparse(x)."
        )
    try:
        return pt.as_tensor_variable(value)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise _no_numbers(owner, name, value) from error


def _as_array(owner, name, value):
    """An array of a dtype that PyTensor has; a list where an array of objects holds tensors."""
    if issparse(value):
        raise TypeError(
            f"{owner}: `{name}` is a sparse {type(value).__name__}, expected a dense array; pass "
            "x.toarray()."
        )
    try:
        # A Python number has the precision of floatX, not the least that represents it.
        array = np.asarray(value, dtype=config.floatX if isinstance(value, int | float) else None)
    except (TypeError, ValueError) as error:
        raise _no_numbers(owner, name, value) from error
    if array.dtype.kind == "O":
        if any(isinstance(entry, Variable) for entry in array.flat):
            return array.tolist()
        return _from_objects(owner, name, value, array)
    if array.dtype.kind in "iub":
        return array.astype(config.floatX)
    if array.dtype.kind != "f":
        if isinstance(value, np.ndarray) or array.dtype.kind == "c":
            raise _not_real(owner, name, array.dtype)
        raise _no_numbers(owner, name, value)
    native = array.dtype.newbyteorder("=")
    if native.itemsize == 2:
        native = np.dtype("float32")
    return array.astype(native if native.itemsize <= 8 else "float64", copy=False)


def _from_objects(owner, name, value, array):
    """Numbers that NumPy holds as objects: of Python, decimals, columns of data frames."""
    if array.ndim == 0 and not isinstance(array[()], Real | Decimal):
        raise _no_numbers(owner, name, value)
    for entry in array.flat:
        if entry is None or type(entry).__name__ == "NAType":
            raise ValueError(
                f"{owner}: `{name}` has missing entries ({entry}), expected numbers; fill them in, "
                "or write NaN where data are missing."
            )
        if not isinstance(entry, Real | Decimal | np.bool):
            raise TypeError(
                f"{owner}: `{name}` has an entry that is a {type(entry).__name__}, expected real "
                "numbers."
            )
    return array.astype(config.floatX)


def _no_numbers(owner, name, value):
    return TypeError(
        f"{owner}: `{name}` is a {type(value).__name__}, expected an array or a tensor."
    )


def _not_real(owner, name, dtype):
    return TypeError(f"{owner}: `{name}` has dtype {dtype}, expected real numbers.")


def as_size(owner: str, size):
    """A user's ``size``: None, an int where it is known, else a scalar tensor."""
    if isinstance(size, Constant) and size.type.ndim == 0:
        size = size.data[()]
    known = isinstance(size, int | np.integer) and not isinstance(size, bool)
    if known and size < 0:
        raise ValueError(f"{owner}: `size` is {size}, expected a number of observations.")
    if known:
        return int(size)
    symbolic = isinstance(size, Variable) and size.type.ndim == 0
    if size is None or (symbolic and size.type.dtype in discrete_dtypes):
        return size
    raise TypeError(
        f"{owner}: `size` is a {type(size).__name__}, expected an integer or a scalar of one"
        f"{named_dims_hint(size)}."
    )


def check_square(owner: str, name: str, matrix: TensorVariable) -> None:
    """Raise a ValueError where the last two static sizes are known to differ."""
    rows, columns = matrix.type.shape[-2:]
    if rows is not None and columns is not None and rows != columns:
        raise ValueError(
            f"{owner}: `{name}` has shape {matrix.type.shape}, expected (..., n, n): pass a square "
            "matrix."
        )
