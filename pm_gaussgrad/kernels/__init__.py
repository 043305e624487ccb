"""Array algorithms: arrays in, arrays out, compilable by numba, free of PyTensor.

Importing this package does not import numba; the overloads that give the LAPACK
calls their compiled form live in :mod:`pm_gaussgrad.kernels.lapack_numba`.
"""
