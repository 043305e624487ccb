"""Compiled forms of :mod:`pm_gaussgrad.kernels.lapack`; importing it imports numba.

The addresses of SciPy's BLAS and LAPACK are given to LLVM as named symbols. Compiled
code then refers to them by name, so numba can keep it on disk, and a later process,
where the addresses differ, resolves the names anew when this module is imported.
"""

import functools

import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core import cgutils, types
from numba.core.extending import get_cython_function_address, intrinsic, overload

from pm_gaussgrad.kernels import lapack
from pm_gaussgrad.kernels.substitution import (
    SHORT,
    STRIP,
    backward_substitution,
    forward_substitution,
)

_ARGUMENTS = {
    # c: a character, i: an integer, f: a number or an array; all by reference
    "potrf": ("cython_lapack", "cifii"),
    "potri": ("cython_lapack", "cifii"),
    "trtri": ("cython_lapack", "ccifii"),
    "trsv": ("cython_blas", "cccififi"),
    "trsm": ("cython_blas", "cccciiffifi"),
    "symm": ("cython_blas", "cciiffififfi"),
    "syrk": ("cython_blas", "cciiffiffi"),
    "gemm": ("cython_blas", "cciiiffififfi"),
    "gemv": ("cython_blas", "ciiffififfi"),
    "syevd": ("cython_lapack", "ccififfiiii"),
}


def _declare_symbols():
    functions = {}
    for routine, (module, arguments) in _ARGUMENTS.items():
        for dtype, prefix in ((types.float32, "s"), (types.float64, "d")):
            symbol = f"pm_gaussgrad_{prefix}{routine}"
            llvm.add_symbol(
                symbol, get_cython_function_address(f"scipy.linalg.{module}", prefix + routine)
            )
            pointer = {
                "c": types.CPointer(types.uint8),
                "i": types.CPointer(types.int32),
                "f": types.CPointer(dtype),
            }
            functions[routine, dtype] = types.ExternalFunction(
                symbol, types.void(*(pointer[kind] for kind in arguments))
            )
    return functions


_FUNCTIONS = _declare_symbols()
_UPPER, _TRANSPOSED, _PLAIN, _LEFT, _VECTORS = (np.uint8(ord(letter)) for letter in "UTNLV")


@intrinsic
def _reference(typing_context, value):
    """A pointer to a copy of the value on the stack of the calling function."""

    def codegen(context, builder, signature, arguments):
        return cgutils.alloca_once_value(builder, arguments[0])

    return types.CPointer(value)(value), codegen


@overload(lapack.cholesky)
def _cholesky(a):
    potrf = _FUNCTIONS["potrf", a.dtype]

    def compiled(a):
        n = np.int32(a.shape[0])
        info = _reference(np.int32(0))
        potrf(_reference(_UPPER), _reference(n), a.ctypes, _reference(max(n, np.int32(1))), info)
        return numba.carray(info, (1,))[0] == 0

    return compiled


@overload(lapack.inverse_from_cholesky)
def _inverse_from_cholesky(factor):
    potri = _FUNCTIONS["potri", factor.dtype]

    def compiled(factor):
        n = np.int32(factor.shape[0])
        lda = max(n, np.int32(1))
        potri(
            _reference(_UPPER),
            _reference(n),
            factor.ctypes,
            _reference(lda),
            _reference(np.int32(0)),
        )

    return compiled


@overload(lapack.inverse_lower)
def _inverse_lower(factor):
    trtri = _FUNCTIONS["trtri", factor.dtype]

    def compiled(factor):
        n = np.int32(factor.shape[0])
        trtri(
            _reference(_UPPER),
            _reference(_PLAIN),
            _reference(n),
            factor.ctypes,
            _reference(max(n, np.int32(1))),
            _reference(np.int32(0)),
        )

    return compiled


@numba.njit(error_model="numpy")
def _forward_by_row(factor, rows):
    for row in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            value = rows[row, i]
            for j in range(i):
                value -= factor[i, j] * rows[row, j]
            rows[row, i] = value / factor[i, i]


@numba.njit(error_model="numpy")
def _backward_by_row(factor, rows):
    for row in range(rows.shape[0]):
        for i in range(rows.shape[1] - 1, -1, -1):
            value = rows[row, i] / factor[i, i]
            rows[row, i] = value
            for j in range(i):
                rows[row, j] -= factor[i, j] * value


def _side_by_side(substitute, by_row):
    """A solve of short rows: of many a strip at a time, as columns side by side."""

    @numba.njit(error_model="numpy")
    def solve(factor, rows):
        m, n = rows.shape
        if m < 4:
            by_row(factor, rows)
            return
        columns = np.empty((n, min(m, STRIP)), rows.dtype)
        for start in range(0, m, STRIP):
            count = min(m - start, STRIP)
            for i in range(n):
                for s in range(count):
                    columns[i, s] = rows[start + s, i]
            substitute(factor, columns)  # the last strip with what the one before it left
            for i in range(n):
                for s in range(count):
                    rows[start + s, i] = columns[i, s]

    return solve


_forward_substitution = _side_by_side(
    numba.njit(error_model="numpy")(forward_substitution), _forward_by_row
)
_backward_substitution = _side_by_side(
    numba.njit(error_model="numpy")(backward_substitution), _backward_by_row
)


def _triangular_solve(transposition, substitute):
    def overloaded(factor, rows):
        dtype = factor.dtype
        trsv, trsm = _FUNCTIONS["trsv", dtype], _FUNCTIONS["trsm", dtype]

        def compiled(factor, rows):
            m, n = np.int32(rows.shape[0]), np.int32(rows.shape[1])
            lda = max(n, np.int32(1))
            if n <= SHORT:
                substitute(factor, rows)
            elif m == 1:
                trsv(
                    _reference(_UPPER),
                    _reference(transposition),
                    _reference(_PLAIN),
                    _reference(n),
                    factor.ctypes,
                    _reference(lda),
                    rows.ctypes,
                    _reference(np.int32(1)),
                )
            else:
                trsm(
                    _reference(_LEFT),
                    _reference(_UPPER),
                    _reference(transposition),
                    _reference(_PLAIN),
                    _reference(n),
                    _reference(m),
                    _reference(dtype(1)),
                    factor.ctypes,
                    _reference(lda),
                    rows.ctypes,
                    _reference(lda),
                )

        return compiled

    return overloaded


overload(lapack.solve_lower)(_triangular_solve(_TRANSPOSED, _forward_substitution))
overload(lapack.solve_lower_transposed)(_triangular_solve(_PLAIN, _backward_substitution))


@overload(lapack.symmetric_product)
def _symmetric_product(matrix, rows, out):
    dtype = matrix.dtype
    symm = _FUNCTIONS["symm", dtype]

    def compiled(matrix, rows, out):
        m, n = np.int32(rows.shape[0]), np.int32(rows.shape[1])
        lda = max(n, np.int32(1))
        symm(
            _reference(_LEFT),
            _reference(_UPPER),
            _reference(n),
            _reference(m),
            _reference(dtype(1)),
            matrix.ctypes,
            _reference(lda),
            rows.ctypes,
            _reference(lda),
            _reference(dtype(0)),
            out.ctypes,
            _reference(lda),
        )

    return compiled


@overload(lapack.gram)
def _gram(rows, out):
    dtype = rows.dtype
    syrk = _FUNCTIONS["syrk", dtype]

    def compiled(rows, out):
        n, k = np.int32(rows.shape[0]), np.int32(rows.shape[1])
        lda = max(k, np.int32(1))
        syrk(
            _reference(_UPPER),
            _reference(_PLAIN),
            _reference(k),
            _reference(n),
            _reference(dtype(1)),
            rows.ctypes,
            _reference(lda),
            _reference(dtype(0)),
            out.ctypes,
            _reference(lda),
        )

    return compiled


@overload(lapack.eigen)
def _eigen(a, values):
    dtype = a.dtype
    syevd = _FUNCTIONS["syevd", dtype]

    def compiled(a, values):
        n = a.shape[0]
        for i in range(n):
            for j in range(i + 1):
                if not np.isfinite(a[i, j]):
                    return False
        work = np.empty(1 + 6 * n + 2 * n * n, dtype)
        integers = np.empty(3 + 5 * n, np.int32)
        info = _reference(np.int32(0))
        syevd(
            _reference(_VECTORS),
            _reference(_UPPER),
            _reference(np.int32(n)),
            a.ctypes,
            _reference(np.int32(max(n, 1))),
            values.ctypes,
            work.ctypes,
            _reference(np.int32(work.size)),
            integers.ctypes,
            _reference(np.int32(integers.size)),
            info,
        )
        return numba.carray(info, (1,))[0] == 0

    return compiled


@functools.cache
def _product(dtype):
    """Of C-contiguous matrices, the transpose of a factor where that is told."""
    gemm, gemv = _FUNCTIONS["gemm", dtype], _FUNCTIONS["gemv", dtype]

    # C order is Fortran order of the transpose: out' = right' left'.
    @numba.njit(error_model="numpy")
    def product(left, right, of_left, of_right, out):
        m, n = np.int32(out.shape[0]), np.int32(out.shape[1])
        one, zero, step = _reference(dtype(1)), _reference(dtype(0)), _reference(np.int32(1))
        if m == 1 or n == 1:  # xGEMM would pack the matrix, which costs more than the product
            matrix, vector = (right, left) if m == 1 else (left, right)
            turned = of_right if m == 1 else not of_left
            out[:] = 0
            columns, rows = np.int32(matrix.shape[1]), np.int32(matrix.shape[0])
            gemv(
                _reference(_TRANSPOSED if turned else _PLAIN),
                _reference(columns),
                _reference(rows),
                one,
                matrix.ctypes,
                _reference(max(columns, np.int32(1))),
                vector.ctypes,
                step,
                zero,
                out.ctypes,
                step,
            )
        else:
            gemm(
                _reference(_TRANSPOSED if of_right else _PLAIN),
                _reference(_TRANSPOSED if of_left else _PLAIN),
                _reference(n),
                _reference(m),
                _reference(np.int32(left.shape[0] if of_left else left.shape[1])),
                one,
                right.ctypes,
                _reference(np.int32(max(right.shape[1], 1))),
                left.ctypes,
                _reference(np.int32(max(left.shape[1], 1))),
                zero,
                out.ctypes,
                _reference(max(n, np.int32(1))),
            )

    return product


@overload(lapack.product_of_plain_or_transposed)
def _product_of_plain_or_transposed(left, right, left_transposed, right_transposed, out):
    product = _product(out.dtype)

    def compiled(left, right, left_transposed, right_transposed, out):
        product(left, right, left_transposed != 0, right_transposed != 0, out)

    return compiled


@overload(lapack.matrix_product)
def _matrix_product(left, right, out):
    product = _product(out.dtype)
    of_left, of_right = left.layout != "C", right.layout != "C"
    plain_left, plain_right = (_transpose if turned else _same for turned in (of_left, of_right))

    def compiled(left, right, out):
        product(plain_left(left), plain_right(right), of_left, of_right, out)

    return compiled


@numba.njit
def _same(matrix):
    return matrix


@numba.njit
def _transpose(matrix):
    return matrix.T
