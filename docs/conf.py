import inspect
import os
import re
from importlib.metadata import version as installed_version
from pathlib import Path

import pm_gaussgrad as gg
from pm_gaussgrad.cov.protocol.composite import Composite
from pm_gaussgrad.cov.protocol.leaf import Leaf

# One BLAS thread in the executed pages, as in the test suite.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

project = "pm_gaussgrad"
author = "The pm_gaussgrad developers"
copyright = author
version = release = installed_version("pm_gaussgrad")

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]

html_theme = "pydata_sphinx_theme"
html_title = "pm_gaussgrad"
html_show_sourcelink = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
# Pages without sub-pages have no use for the bar.
html_sidebars = {
    page: []
    for page in (
        "index",
        "quickstart",
        "gradient",
        "student_t",
        "loo",
        "integrate",
        "prediction",
        "residuals",
        "fisher",
        "comparison",
        "troubleshooting",
    )
}

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 900  # seconds a cell; pages are executed side by side (sphinx -j)
nb_output_stderr = "remove"

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False


# Lists of structures, from what the package exports; the line of a table is in the head of a page.
_PAGES = Path(__file__).parent / "structures"


def _structures():
    kinds = [getattr(gg.cov, name) for name in gg.cov.__all__]
    kinds = [x for x in kinds if isinstance(x, type) and x is not gg.cov.Covariance]
    # By family, matrices first; in alphabetical order within one.
    families = (Path(gg.cov.__file__).parent).iterdir()
    order = ["matrices", *sorted(path.name for path in families if path.is_dir())]
    return sorted(
        kinds, key=lambda kind: (order.index(kind.__module__.split(".")[2]), kind.__name__)
    )


def _page(kind):
    return kind.__module__.rpartition(".")[2]


def _row(kind):
    head = (_PAGES / f"{_page(kind)}.md").read_text().split("\n---\n")[0]
    name, more, cells = re.search(r"^structure: '(`.*?`)(.*?) \| (.*)'$", head, re.M).groups()
    return f"| [{name}]({_page(kind)}.md){more} | {cells} |"


def _autoclass(kind):
    shared = {*dir(Leaf), *dir(Composite)}
    own = [
        name
        for name, member in vars(kind).items()
        if not name.startswith("_")
        and name not in shared
        and (inspect.isfunction(member) or isinstance(member, classmethod | property))
    ]
    members = f"\n   :members: {', '.join(own)}" if own else ""
    return f".. autoclass:: {kind.__name__}{members}\n"


def _fill_in(app, docname, source):
    for what, of in (("rows", _row), ("pages", _page), ("classes", _autoclass)):
        place = f"{{{{ {what} of structures }}}}"
        if place in source[0]:
            source[0] = source[0].replace(place, "\n".join(map(of, _structures())))


def setup(app):
    """Fill in the lists before a page is read."""
    app.connect("source-read", _fill_in)
