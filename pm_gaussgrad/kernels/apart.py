"""Long functions that kernels share, compiled by themselves."""


def apart(*arguments):
    """Mark a function: compiled code calls it by the name of its machine code.

    So it is compiled once, and kept on disk once, whatever calls it; numba would link it into each
    kernel and optimise it there again. For short functions in inner loops that is what it should
    do.

    Parameters
    ----------
    *arguments : str
        The dtype and the rank of each argument, ``"float64 1"``, which is a C-contiguous array, or
        the dtype of a number, ``"int64"``.
    """

    def marked(function):
        kinds = (argument.split() for argument in arguments)
        function.arguments = tuple(
            (dtype, int(rank[0]) if rank else None) for dtype, *rank in kinds
        )
        return function

    return marked
