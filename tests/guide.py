"""The structure that the guide for contributors builds, executed from its page."""

import re
from pathlib import Path

_PAGE = Path(__file__).parents[1] / "docs" / "adding_a_structure.md"
_CELL = re.compile(r"^```{code-cell} ipython3\n(?!:tags:)(.*?)^```", re.M | re.S)
# The kernels, the class and its sums. What follows on the page checks them.
_BUILT, _CHECKED = _PAGE.read_text().split("## 4. Check it")

for cell in _CELL.findall(_BUILT):
    exec(compile(cell, str(_PAGE), "exec"), globals())
