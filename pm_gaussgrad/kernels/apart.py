"""How functions that kernels call are compiled: by themselves, or in the place of the call."""


def apart(*arguments, result=None):
    """Mark a function: compiled code calls it by the name of its machine code.

    So it is compiled once, and kept on disk once, whatever calls it; numba would link it into each
    kernel and optimise it there again. For short functions in inner loops that is what it should
    do.

    Parameters
    ----------
    *arguments : str
        The dtype and the rank of each argument, ``"float64 1"``, which is a C-contiguous array, or
        the dtype of a number, ``"int64"``.
    result : tuple of str, optional
        What it returns, each as an argument; empty for nothing. Where this is given the function
        is compiled when it is first called, and not at all where it never is.
    """

    def marked(function):
        function.arguments = _kinds(arguments)
        function.result = None if result is None else _kinds(result)
        return function

    return marked


def _kinds(described):
    """Dtype and rank of each, None as the rank of a number."""
    words = (text.split() for text in described)
    return tuple((dtype, int(rank[0]) if rank else None) for dtype, *rank in words)


def in_place(function):
    """Mark a function: compiled code has it in the place of the call.

    So integers that are known there are known in it, and its loops over a matrix of few rows are
    unrolled. A product and a sum may be one instruction, with one rounding. For functions that are
    called once or twice.
    """
    function.in_place = True
    return function
