"""The least work of a dense covariance: LAPACK, and the kernel with its own gradient."""

import numpy as np
import pytensor
import pytensor.tensor as pt
from scipy.linalg.lapack import dpotrf, dpotri


def dense_floor(covariance, parameters):
    """Return a function that does what no exact dense likelihood with a gradient can avoid.

    Parameters
    ----------
    covariance
        Function of a list of scalar tensors that returns the matrix, symbolically.
    parameters
        Values of the scalars.

    Returns
    -------
    callable
        Copies a matrix made beforehand and runs bare xPOTRF and xPOTRI on it; then builds the
        matrix from the parameters and contracts a cotangent made beforehand with its derivative.
    """
    symbols = [pt.scalar() for _ in parameters]
    cotangent = pt.matrix()
    matrix = covariance(symbols)
    gradients = pytensor.grad((matrix * cotangent).sum(), symbols, consider_constant=[cotangent])
    build = pytensor.function([cotangent, *symbols], [matrix, *gradients], trust_input=True)
    values = [np.asarray(p) for p in parameters]
    fixed = build(np.zeros(matrix.type.shape), *values)[0]
    bar = np.linalg.inv(fixed)

    def run():
        # The transpose of a C-ordered copy is Fortran-ordered: nothing is copied again.
        factor, info = dpotrf(fixed.copy().T, lower=0, clean=0, overwrite_a=1)
        inverse, _ = dpotri(factor, lower=0, overwrite_c=1)
        return info, inverse, build(bar, *values)

    return run
