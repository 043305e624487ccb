"""Where the reference cases lie, and how they are read.

The cases are numbers that this project did not make: other packages' output, published tables
and high-precision arithmetic. They are kept beside the project, not in it; a module that needs
a case which is absent skips with a reason.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1].parent / "shared" / "reference_cases"


def require(*cases):
    """Skip the calling module unless all ``cases`` are present."""
    missing = [case for case in cases if not (ROOT / case).is_dir()]
    if missing:
        pytest.skip(f"reference cases absent: {', '.join(missing)}", allow_module_level=True)


def read_json(case, name="expected.json"):
    return json.loads((ROOT / case / name).read_text())


def read_npz(case, name):
    with np.load(ROOT / case / name) as archive:
        return dict(archive)


def read_matrix(case, name):
    """A headerless table of numbers, always two-dimensional."""
    return np.loadtxt(ROOT / case / name, delimiter=",", ndmin=2)


def read_columns(case, name="data.csv"):
    """The columns of a table with a header, as lists of strings by name."""
    with (ROOT / case / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {column: [row[column] for row in rows] for column in rows[0]}


def assert_normwise(actual, expected, rtol):
    """Largest deviation at most ``rtol`` times the largest entry, the norm of error bounds."""
    expected = np.asarray(expected, dtype=float)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * scale)
