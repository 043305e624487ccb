"""Long functions that kernels share, compiled by themselves."""


def apart(*arrays):
    """Mark a function: compiled code calls it by the name of its machine code.

    So it is compiled once, and kept on disk once, whatever calls it; numba would link it into each
    kernel and optimise it there again. For other functions of kernels that is what it should do.

    Parameters
    ----------
    *arrays : str
        The dtype and the rank of each argument, ``"float64 1"``: all are C-contiguous arrays.
    """

    def marked(function):
        function.arrays = tuple(
            (dtype, int(rank)) for dtype, rank in (array.split() for array in arrays)
        )
        return function

    return marked
