"""Pictures of whitened residuals on matplotlib axes: quantiles and autocorrelations.

PIT checks of the residuals are ArviZ's own (``docs/residuals.md``).
"""

import numpy as np
import xarray as xr
from scipy.special import ndtri

from pm_gaussgrad.posterior.axes import BANDS, BLUE, DARK, RED, axes_for, percent, titled
from pm_gaussgrad.posterior.draws import SAMPLE_DIMS
from pm_gaussgrad.posterior.residuals.whiteness import autocorrelation, normal_order_band


def plot_residual_qq(residuals, *, prob=0.95, ci_prob=0.9, ax=None):
    """Quantiles of whitened residuals against those of N(0, 1), with a simultaneous band.

    All entries are pooled, whatever their dimensions. The points are posterior means of the order
    statistics, the lines through them central intervals over the draws. Points outside the band
    are red.

    Parameters
    ----------
    residuals : xarray.DataArray
        From :func:`pm_gaussgrad.whitened_residuals`; a part of it, as by ``.sel``; or a single
        draw without the dimensions ``chain`` and ``draw``. NaN is missing.
    prob : float, default 0.95
        Probability that white noise stays within the band everywhere.
    ci_prob : float, default 0.9
        Of the interval over the draws.
    ax : matplotlib.axes.Axes, optional
        By default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    TypeError
        If ``residuals`` is no DataArray.
    ValueError
        If there are no residuals, or a probability is not between 0 and 1.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    The band has the local level, the same for each order statistic, at which the probability is
    exact, by a recursion and not by simulation. It holds for each single draw of a model that is
    right; averages over draws vary less, so that they leave it more rarely. Of more than 1,000
    residuals about as many order statistics are drawn, all of them in the tails, and the band is
    simultaneous for these.

    References
    ----------
    Aldor-Noiman, S. et al. (2013). The power to see: a new graphical test of normality. The
    American Statistician 67, 249-260.

    Saeilynoja, T., Buerkner, P.-C. and Vehtari, A. (2022). Graphical test for discrete uniformity
    and its applications in goodness-of-fit evaluation and multiple sample comparison. Statistics
    and Computing 32, 32.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import pm_gaussgrad as gg
    >>> white = xr.DataArray(np.random.default_rng(1).normal(size=50), dims="time", name="y")
    >>> ax = gg.plot_residual_qq(white)  # doctest: +SKIP
    """
    owner = "gg.plot_residual_qq"
    _check_probabilities(owner, prob=prob, ci_prob=ci_prob)
    _, rows = _rows_of(owner, residuals)
    draws = np.sort(rows[:, ~np.isnan(rows).any(axis=0)], axis=-1)
    if not draws.size:
        raise ValueError(f"{owner}: `residuals` has no entries that are observed, expected some.")
    ranks, median, lower, upper = normal_order_band(draws.shape[1], prob)
    draws = draws[:, ranks - 1]
    mean = draws.mean(axis=0)
    outside = (mean < lower) | (mean > upper)

    ax = axes_for(owner, ax, (5.2, 4.8))
    ax.fill_between(
        median, lower, upper, color=BANDS[0], lw=0, label=f"{percent(prob)} simultaneous band"
    )
    ends = median[[0, -1]] if median.size > 1 else np.array([-1, 1])
    ax.plot(ends, ends, color=DARK, lw=0.8, label="N(0, 1)")
    if len(draws) > 1:
        ax.vlines(
            median,
            *_interval(draws, ci_prob),
            color=BLUE,
            lw=1.0,
            alpha=0.35,
            label=f"{percent(ci_prob)} of the draws",
        )
    label = "posterior mean" if len(draws) > 1 else "residuals"
    for which, color, name in ((~outside, BLUE, label), (outside, RED, "outside the band")):
        if which.any():
            ax.plot(median[which], mean[which], "o", ms=3, mew=0, color=color, label=name)
    ax.set(
        xlabel="quantiles of N(0, 1)",
        ylabel="quantiles of the residuals",
        title=titled("Whitened residuals", residuals.name),
    )
    _legend(ax, loc="upper left")
    return ax


def plot_residual_acf(residuals, *, dim=None, max_lag=None, prob=0.95, ci_prob=0.9, ax=None):
    r"""Autocorrelations of whitened residuals along one dimension, with bands of white noise.

    At lag k, :math:`\sum_t z_t z_{t+k} / \sum_t z_t^2`: the mean is known to be zero. Rows, that
    is all dimensions but ``dim``, are pooled. Points are posterior means, the lines through them
    central intervals over the draws.

    Parameters
    ----------
    residuals : xarray.DataArray
        From :func:`pm_gaussgrad.whitened_residuals`; a part of it, as by ``.sel``; or a single
        draw without the dimensions ``chain`` and ``draw``. NaN is missing: pairs without it count.
    dim : str, optional
        Along which dimension, by default the last. A lag is a step along it, whatever its labels;
        where labels of missing observations are left out, put them back, as NaN, by
        ``residuals.reindex``.
    max_lag : int, optional
        By default :math:`10 \log_{10} n`, less than n.
    prob : float, default 0.95
        Of both bands: the inner holds a lag with this probability, the outer all that are shown.
    ci_prob : float, default 0.9
        Of the interval over the draws.
    ax : matplotlib.axes.Axes, optional
        By default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    TypeError
        If ``residuals`` is no DataArray.
    ValueError
        If it has no dimension ``dim``, or fewer than two entries along it, ``max_lag`` is not
        between 1 and n - 1, or a probability is not between 0 and 1.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    The variance of white noise at a lag with P pairs among N numbers is P/(N (N + 2)), exactly;
    the bands take the autocorrelations as normal, the outer one as independent too.

    References
    ----------
    Ljung, G. M. and Box, G. E. P. (1978). On a measure of lack of fit in time series models.
    Biometrika 65, 297-303, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import pm_gaussgrad as gg
    >>> white = xr.DataArray(np.random.default_rng(1).normal(size=50), dims="time", name="y")
    >>> ax = gg.plot_residual_acf(white)  # doctest: +SKIP
    """
    owner = "gg.plot_residual_acf"
    _check_probabilities(owner, prob=prob, ci_prob=ci_prob)
    dim, draws = _rows_of(owner, residuals, dim)
    n = draws.shape[-1]
    if n < 2:
        raise ValueError(
            f"{owner}: `residuals` has {n} entries along {dim!r}, expected two or more; name "
            "another dimension by dim=."
        )
    max_lag = min(n - 1, int(10 * np.log10(n))) if max_lag is None else max_lag
    if not 1 <= max_lag < n:
        raise ValueError(
            f"{owner}: `max_lag` is {max_lag}, expected 1 to {n - 1}, less than the length of "
            f"{dim!r}."
        )
    values, sd = autocorrelation(draws, max_lag)
    lags = np.arange(1, max_lag + 1)

    ax = axes_for(owner, ax, (6.4, 3.6))
    for probability, color, name in (
        (prob ** (1 / max_lag), BANDS[1], f"{percent(prob)} band, all lags"),
        (prob, BANDS[0], f"{percent(prob)} band, each lag"),
    ):
        half = ndtri((1 + probability) / 2) * sd
        edges, heights = np.r_[lags - 0.5, max_lag + 0.5], np.r_[half, half[-1]]
        ax.fill_between(edges, -heights, heights, step="post", color=color, lw=0, label=name)
    ax.axhline(0, color=DARK, lw=0.8)
    mean = values.mean(axis=0)
    ax.vlines(lags, 0, mean, color=BLUE, lw=1.2)
    if len(draws) > 1:
        name = f"{percent(ci_prob)} of the draws"
        ax.vlines(lags, *_interval(values, ci_prob), color=BLUE, lw=4, alpha=0.35, label=name)
    label = "posterior mean" if len(draws) > 1 else "residuals"
    ax.plot(lags, mean, "o", ms=4, mew=0, color=BLUE, label=label)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(
        xlim=(0.4, max_lag + 0.6),
        xlabel=f"lag along {dim}",
        ylabel="autocorrelation",
        title=titled("Whitened residuals", residuals.name),
    )
    _legend(ax, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def _rows_of(owner, residuals, dim=None):
    """Residuals as (draws, rows, n), with ``dim`` or else the last dimension as the last."""
    if not isinstance(residuals, xr.DataArray):
        raise TypeError(
            f"{owner}: `residuals` is a {type(residuals).__name__}, expected an xarray.DataArray, "
            "as gg.whitened_residuals returns it; wrap numbers as xr.DataArray(z, dims=...)."
        )
    sample = [d for d in SAMPLE_DIMS if d in residuals.dims]
    others = [d for d in residuals.dims if d not in sample]
    dim = others[-1] if dim is None and others else dim
    if dim not in others:
        raise ValueError(
            f"{owner}: `dim` is {dim!r}, expected one of the dimensions {others} of the "
            "observations."
        )
    others.remove(dim)
    ordered = residuals.transpose(*sample, *others, dim).to_numpy().astype(float)
    n_draws = int(np.prod([residuals.sizes[d] for d in sample]))
    return dim, ordered.reshape(n_draws, -1, residuals.sizes[dim])


def _interval(draws, probability):
    """Lower and upper ends of the central interval, over the first dimension."""
    return np.quantile(draws, [(1 - probability) / 2, (1 + probability) / 2], axis=0)


def _check_probabilities(owner, **probabilities):
    for name, value in probabilities.items():
        if not 0 < value < 1:
            raise ValueError(
                f"{owner}: `{name}` is {value}, expected a probability between 0 and 1, such as "
                "0.95."
            )


def _legend(ax, **place):
    ax.legend(frameon=False, fontsize="small", **place)
    ax.spines[["top", "right"]].set_visible(False)
