"""The covariance or correlation matrix as a picture."""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import xarray as xr
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.type import RandomType

from pm_gaussgrad.cov import Covariance, Dense, marginal
from pm_gaussgrad.posterior.axes import axes_for, titled
from pm_gaussgrad.posterior.draws import each_draw, posterior_of
from pm_gaussgrad.posterior.evaluation.interpreted import INTERPRETED
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood

NAME = "gg.plot_covariance"
LARGEST = 3000  # rows of a matrix that is drawn: no screen has more
MOST_TICKS = 8
MOST_NAMES = 20


def plot_covariance(
    idata_or_cov,
    model=None,
    var_name=None,
    *,
    correlation=False,
    positions=None,
    progressbar=True,
    ax=None,
):
    """Picture of a covariance or correlation matrix: a fitted one, or one of constant parameters.

    Parameters
    ----------
    idata_or_cov : xarray.DataTree, gg.cov structure or array_like, shape (n, n)
        With a ``posterior`` group: the posterior mean of the matrix of the model's likelihood is
        shown. Of a structure with constant parameters, and of an array, the matrix itself.
    model : pymc.Model, optional
        By default the one on the context stack.
    var_name : str, optional
        The observed ``gg.MvNormal`` or ``pm.MvNormal`` variable, where there are several.
    correlation : bool, default False
        Show correlations: those of each draw, averaged.
    positions : array_like of int or bool, optional
        Which observations to show, as for :func:`pm_gaussgrad.cov.marginal`.
    progressbar : bool, default True
    ax : matplotlib.axes.Axes, optional
        By default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        A colour bar is beside them. Observations with missing values are shown too.

    Raises
    ------
    TypeError
        If a structure has parameters that are not constant.
    ValueError
        If there is a batch of matrices, or more than 3,000 observations are to be shown.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    The picture is of the dense matrix, which is formed, at each draw: O(n^2) time a draw, and
    memory for one matrix in all. Zero is white.

    Examples
    --------
    >>> import pm_gaussgrad as gg
    >>> cov = gg.cov.AR1(2.0, 0.8, size=20)
    >>> ax = gg.plot_covariance(cov, correlation=True)  # doctest: +SKIP
    """
    # A model in the place of the draws is told so.
    fitted = isinstance(idata_or_cov, xr.DataTree | pm.Model)
    kind = "correlation" if correlation else "covariance"
    if fitted:
        posterior_of(NAME, idata_or_cov)
        likelihood = gaussian_likelihood(NAME, model, var_name)
        cov, dim = likelihood.cov, likelihood.dims[-1]
        labels, title = likelihood.coords[dim], titled(f"Posterior mean {kind}", likelihood.name)
    else:
        cov = idata_or_cov if isinstance(idata_or_cov, Covariance) else Dense(idata_or_cov)
        labels, dim, title = None, "observation", kind.capitalize()
    matrix, positions = _matrix(cov, correlation, positions)
    if fitted:
        draws = each_draw(NAME, likelihood.model, idata_or_cov, [matrix], progressbar=progressbar)
        numbers = _mean(draws)
    else:
        numbers = _evaluated(matrix)
    labels = (
        np.arange(len(numbers) if positions is None else cov.size) if labels is None else labels
    )
    labels = labels if positions is None else labels[positions]
    return _picture(axes_for(NAME, ax, (5.6, 4.6)), numbers, labels, dim, title, correlation)


def _matrix(cov, correlation, positions):
    """The dense matrix of the observations at some positions, and these as numbers."""
    if positions is not None:
        positions = np.asarray(positions)
        cov = marginal(cov, positions)
        positions = np.flatnonzero(positions) if positions.dtype.kind == "b" else positions
    if isinstance(cov.size, int) and cov.size > LARGEST:
        raise ValueError(
            f"{NAME}: the covariance has {cov.size} observations, expected {LARGEST} at most to be "
            f"formed and drawn; show some, as by positions=range(0, {cov.size}, "
            f"{-(-cov.size // 1000)})."
        )
    matrix = cov.to_dense()
    while matrix.type.ndim > 2 and matrix.type.shape[0] == 1:
        matrix = matrix[0]  # PyMC's own, common to rows
    if matrix.type.ndim > 2:
        raise ValueError(
            f"{NAME}: the covariance has {matrix.type.ndim - 2} batch dimension(s), expected one "
            "matrix; pass the one to be shown as an array, such as cov.to_dense()[0].eval()."
        )
    if correlation:
        scale = pt.sqrt(pt.diagonal(matrix))
        matrix = matrix / (scale[:, None] * scale)
    return matrix, positions


def _evaluated(matrix):
    """The numbers of a matrix without variables upstream."""
    for x in ancestors([matrix]):
        shared = isinstance(x, SharedVariable) and not isinstance(x.type, RandomType)
        if x.owner is None and not shared and not isinstance(x, Constant):
            raise TypeError(
                f"{NAME}: the covariance depends on variables that are not known, expected "
                "constant parameters; of a fitted model pass `idata`, else numbers in place of "
                "the variables."
            )
    return pytensor.function([], matrix, mode=INTERPRETED)()


def _mean(draws):
    """Mean over the draws, of which one is held at a time."""
    total, count = 0, 0
    for _, [matrix] in draws:
        total, count = total + matrix, count + 1
    return total / count


def _picture(ax, numbers, labels, dim, title, correlation):
    """Draw numbers with zero in white, labels and a colour bar of their range."""
    limit = 1 if correlation else np.abs(numbers).max(initial=0)
    image = ax.imshow(numbers, cmap="RdBu_r", vmin=-limit, vmax=limit)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85)
    bar.ax.set_ylim(min(numbers.min(initial=0), 0), limit)
    bar.outline.set_visible(False)
    ticks, texts = _ticks(pd.Index(labels).to_numpy())
    crowded = len(texts) > 4 and max(map(len, texts)) > 4
    ax.set_xticks(ticks, texts, rotation=90 if crowded else 0)
    ax.set_yticks(ticks, texts)
    ax.tick_params(labelsize="small", length=2)
    ax.set(xlabel=dim, title=title)
    return ax


def _ticks(labels):
    """Where to put which labels: round numbers, or every few names."""
    kind, n = labels.dtype.kind, len(labels)
    if kind in "iuf" and n > MOST_TICKS and (np.diff(labels) > 0).all():
        from matplotlib.ticker import MaxNLocator

        locator = MaxNLocator(MOST_TICKS, steps=[1, 2, 5, 10], integer=kind != "f")
        rounded = locator.tick_values(labels[0], labels[-1])
        rounded = rounded[(rounded >= labels[0]) & (rounded <= labels[-1])]
        return np.interp(rounded, labels, np.arange(n)), [f"{x:.10g}" for x in rounded]
    most = MOST_TICKS if kind in "iufM" else MOST_NAMES
    ticks = np.arange(0, n, max(-(-n // most), 1))
    if kind == "M":
        return ticks, list(np.datetime_as_string(labels[ticks], unit="D"))
    return ticks, [f"{x:.4g}" if kind == "f" else str(x) for x in labels[ticks].tolist()]
