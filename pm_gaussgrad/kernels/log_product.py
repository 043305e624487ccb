"""The logarithm of a product of many numbers, by one logarithm for many of them."""

import numpy as np


def log_product(values):
    """Of positive numbers; NaN where one is not."""
    total, product, usable = 0.0, 1.0, True
    for value in values:
        usable = usable and 0 < value < np.inf
        if 1e-100 < value < 1e100:
            product *= value
        else:
            total += np.log(value)
        if not 1e-200 < product < 1e200:
            total += np.log(product)
            product = 1.0
    return total + np.log(product) if usable else np.nan
