"""Sums of the entries of an array, of all or over neighbouring axes."""


def total(x):
    """The sum of all entries; four by four, as one after the other waits for the one before."""
    flat = x.reshape(x.size)
    whole = flat.size - flat.size % 4
    first = second = third = fourth = 0.0
    for i in range(0, whole, 4):
        first += flat[i]
        second += flat[i + 1]
        third += flat[i + 2]
        fourth += flat[i + 3]
    for i in range(whole, flat.size):
        first += flat[i]
    return ((first + second) + (third + fourth),)


def sums_over_axes(x, sums, start, stop):
    """The sums over the axes from ``start`` to before ``stop``, written to ``sums``."""
    before = summed = after = 1
    for axis in range(x.ndim):
        if axis < start:
            before *= x.shape[axis]
        elif axis < stop:
            summed *= x.shape[axis]
        else:
            after *= x.shape[axis]
    flat, out = x.reshape(x.size), sums.reshape(sums.size)
    for i in range(before):
        for k in range(after):
            out[i * after + k] = 0.0
        for j in range(summed):
            for k in range(after):
                out[i * after + k] += flat[(i * summed + j) * after + k]
    return (sums,)
