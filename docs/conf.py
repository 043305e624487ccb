import os
from importlib.metadata import version as installed_version

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
nb_execution_timeout = 300
nb_output_stderr = "remove"

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
