"""Compiled forms of :mod:`pm_gaussgrad.kernels.lapack_panels`; importing it imports numba."""

import numba
import numpy as np
from numba.core.extending import overload

from pm_gaussgrad.kernels import lapack_panels
from pm_gaussgrad.kernels.lapack_numba import _FUNCTIONS, _reference

_LEFT, _LOWER, _NOT, _RIGHT, _TRANSPOSED = (np.uint8(ord(letter)) for letter in "LLNRT")


@overload(lapack_panels.factor_panel)
def _factor_panel(panel):
    dtype = panel.dtype
    potrf, trsm = _FUNCTIONS["potrf", dtype], _FUNCTIONS["trsm", dtype]

    def compiled(panel):
        k, height = np.int32(panel.shape[0]), np.int32(panel.shape[1])
        info = _reference(np.int32(0))
        potrf(_reference(_LOWER), _reference(k), panel.ctypes, _reference(height), info)
        if numba.carray(info, (1,))[0] != 0:
            return False
        if height > k:
            trsm(
                _reference(_RIGHT),
                _reference(_LOWER),
                _reference(_TRANSPOSED),
                _reference(_NOT),
                _reference(np.int32(height - k)),
                _reference(k),
                _reference(dtype(1)),
                panel.ctypes,
                _reference(height),
                panel[0, k:].ctypes,
                _reference(height),
            )
        return True

    return compiled


@overload(lapack_panels.subtract_outer_product)
def _subtract_outer_product(panel, matrix):
    dtype = panel.dtype
    syrk = _FUNCTIONS["syrk", dtype]

    def compiled(panel, matrix):
        k, size = np.int32(panel.shape[0]), np.int32(matrix.shape[0])
        syrk(
            _reference(_LOWER),
            _reference(_NOT),
            _reference(size),
            _reference(k),
            _reference(dtype(-1)),
            panel[0, k:].ctypes,
            _reference(np.int32(panel.shape[1])),
            _reference(dtype(1)),
            matrix.ctypes,
            _reference(size),
        )

    return compiled


@overload(lapack_panels.invert_panel)
def _invert_panel(panel, inverse, memory):
    dtype = panel.dtype
    potri, trsm = _FUNCTIONS["potri", dtype], _FUNCTIONS["trsm", dtype]

    def compiled(panel, inverse, memory):
        k, height = np.int32(panel.shape[0]), np.int32(panel.shape[1])
        size = np.int32(height - k)
        for j in range(k):
            for i in range(j, k):
                inverse[j, i] = panel[j, i]
            for i in range(size):
                memory[j, i] = panel[j, k + i]
        potri(
            _reference(_LOWER),
            _reference(k),
            inverse.ctypes,
            _reference(height),
            _reference(np.int32(0)),
        )
        if size > 0:
            trsm(
                _reference(_RIGHT),
                _reference(_LOWER),
                _reference(_NOT),
                _reference(_NOT),
                _reference(size),
                _reference(k),
                _reference(dtype(1)),
                panel.ctypes,
                _reference(height),
                memory.ctypes,
                _reference(size),
            )

    return compiled


@overload(lapack_panels.extend_inverse)
def _extend_inverse(inverse, memory, corner):
    dtype = inverse.dtype
    symm, gemm = _FUNCTIONS["symm", dtype], _FUNCTIONS["gemm", dtype]

    def compiled(inverse, memory, corner):
        k, height = np.int32(inverse.shape[0]), np.int32(inverse.shape[1])
        size = np.int32(corner.shape[0])
        symm(
            _reference(_LEFT),
            _reference(_LOWER),
            _reference(size),
            _reference(k),
            _reference(dtype(-1)),
            corner.ctypes,
            _reference(size),
            memory.ctypes,
            _reference(size),
            _reference(dtype(0)),
            inverse[0, k:].ctypes,
            _reference(height),
        )
        gemm(
            _reference(_TRANSPOSED),
            _reference(_NOT),
            _reference(k),
            _reference(k),
            _reference(size),
            _reference(dtype(-1)),
            memory.ctypes,
            _reference(size),
            inverse[0, k:].ctypes,
            _reference(height),
            _reference(dtype(1)),
            inverse.ctypes,
            _reference(height),
        )

    return compiled
