"""Sparse symmetric positive definite matrices: factor, solve, inverse entries, on one analysis.

A matrix is given by the values of its lower triangle on a fixed pattern. What depends on the
pattern alone is found once (:func:`~pm_gaussgrad.kernels.sparse.analysis.analyse`) and travels as
one array of integers, described in :mod:`pm_gaussgrad.kernels.sparse.layout`; what depends on the
values is a flat array, the factor. All of it is compilable by numba and free of PyTensor.
"""
