"""Where pictures are drawn: matplotlib axes, colours that the colour-blind tell apart, titles.

Each picture is one panel and is returned as its axes, for titles and limits to be changed, and is
drawn on given axes where there are some. matplotlib is imported when a picture is asked for.
"""

DARK, BLUE, RED = "#1a1a1a", "#22577a", "#b5442e"
BANDS = "#cdd8e2", "#e6ecf1"


def axes_for(owner, ax, figsize):
    """The given axes, or those of a new figure."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{owner}: matplotlib is not installed; install it by `pip install matplotlib`."
        ) from error
    return plt.subplots(figsize=figsize, layout="constrained")[1]


def percent(probability):
    """A probability in words: 0.95 is ``95 %``."""
    return f"{100 * probability:.3g} %"


def titled(title, name):
    """A title with the name of the variable, where there is one."""
    return title if name is None else f"{title} of {name}"
