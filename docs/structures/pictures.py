"""Pictures of matrices for the structure pages."""

import matplotlib.pyplot as plt
import numpy as np
import pytensor

# Each page evaluates one or two functions once; they need no compiled glue.
pytensor.config.mode = "FAST_COMPILE"


def show(**matrices):
    """Draw matrices side by side; each title is a keyword, as mathematics."""
    figure, axes = plt.subplots(
        1, len(matrices), figsize=(3.1 * len(matrices), 2.7), layout="constrained"
    )
    for axis, (title, matrix) in zip(axes, matrices.items(), strict=True):
        limit = np.abs(matrix).max()
        image = axis.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set(title=f"${title}$", xticks=[], yticks=[])
        figure.colorbar(image, ax=axis, shrink=0.8)
    plt.show()
