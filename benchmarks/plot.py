"""Time against size on logarithmic axes, one panel a case."""

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.measure import Result

LINES = {
    "ours": {"color": "#b5442e", "marker": "o"},
    "peer": {"color": "#22577a", "marker": "s"},
    "floor": {"color": "#888888", "ls": "--"},
}


def _panel(axis, result: Result) -> None:
    """Draw the curves of one case, each labelled with its slope at the largest sizes."""
    for name, style in LINES.items():
        sizes, seconds = result.curve(name)
        if not len(sizes):
            continue
        slope = result.exponent(name)
        label = {"ours": "pm_gaussgrad", "peer": result.case.peer, "floor": "floor"}[name]
        label += "" if slope is None else f", slope {slope:.2f}"
        axis.loglog(sizes, 1e3 * seconds, ms=4, lw=1.3, label=label, **style)
    varies_in_n = len({at.n for at in result.case.sizes}) > 1
    axis.set_title(f"{result.case.name}: {result.case.title}", fontsize=8.5, loc="left")
    axis.set_xlabel("n" if varies_in_n else f"rows (n = {result.case.sizes[0].n})")
    axis.legend(frameon=False, fontsize=7.5)
    axis.grid(which="major", color="#dddddd", lw=0.6)
    axis.set_axisbelow(True)


def plot_scaling(results: list[Result], path: Path) -> None:
    """Save the picture."""
    columns = min(3, len(results))
    rows = math.ceil(len(results) / columns)
    style = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure, axes = plt.subplots(
            rows, columns, figsize=(4.6 * columns, 3.4 * rows), layout="constrained", squeeze=False
        )
        for axis, result in zip(axes.flat, results, strict=False):
            _panel(axis, result)
        for axis in axes.flat[len(results) :]:
            axis.set_axis_off()
        for axis in axes[:, 0]:
            axis.set_ylabel("value and gradient (ms)")
        figure.savefig(path, dpi=150)
    plt.close(figure)
