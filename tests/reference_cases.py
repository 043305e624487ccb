"""Where the reference cases lie, and how they are read.

The cases are numbers that this project did not make: other packages' output, published tables
and high-precision arithmetic. The complete sets (``../shared/reference_cases``) are kept beside
the project, not in it; what may be carried of them lies in ``tests/reference``, whose README
says where it comes from. A case is read from the complete sets where they are in reach, else
from what is carried; tests of a case that is in neither skip, once, with a reason.

``REFERENCE_CASES=carried`` in the environment puts the complete sets out of reach. A file of a
case that may be carried is read from the complete sets only where it is carried, too, and what is
carried is equal to its source bit by bit (``test_reference_carried.py``): tests that pass with the
complete sets do so in a clone that lies alone.
"""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

CARRIED = Path(__file__).resolve().parent / "reference"
COMPLETE = CARRIED.parents[2] / "shared" / "reference_cases"

# Cases that a test reads and that may not be carried, or have not been cleared to be.
NOT_CARRIED = {
    "geor_elevation_matern15": "may not be carried, data of a package under the GPL",
    "geor_s100_exponential": "may not be carried, data of a package under the GPL",
    "gls_meuse_exp": "may not be carried, data of a package under the GPL",
    "gls_wheat2_spher": "not cleared, data of a package under the GPL",
    "gp_co2_george": "not cleared, numbers printed in another package's tutorial",
    "loo_sar_crime": "may not be carried, out of a vignette under the GPL",
    "pdb_eight_schools": "may not be carried, out of posteriordb",
    "pdb_gp_regr": "may not be carried, out of posteriordb",
    "pdb_radon_mn": "may not be carried, out of posteriordb",
    "pdb_rats": "may not be carried, out of posteriordb",
    "pdb_sblri": "may not be carried, out of posteriordb",
    "peer_stan_math": "may not be carried, out of Stan's unit tests",
    "phylo_geospiza": "may not be carried, data of a package under the GPL",
    "stan_autodiff/gp_exponential": "the data of gls_meuse_exp, which may not be carried",
    "stan_autodiff/gp_se": "the data of gls_meuse_exp, which may not be carried",
}


def is_complete(case):
    """Whether a case is read from the complete sets."""
    wanted = os.environ.get("REFERENCE_CASES", "complete")
    if wanted not in ("complete", "carried"):
        raise ValueError(f"REFERENCE_CASES is {wanted!r}: expected 'complete' or 'carried'")
    return wanted == "complete" and (COMPLETE / case).is_dir()


def out_of_reach(*cases):
    """Why ``cases`` cannot all be read, empty if they can."""
    by_reason = {}
    for case in cases:
        if not is_complete(case) and not (CARRIED / case).is_dir():
            by_reason.setdefault(NOT_CARRIED[case], []).append(case)
    return "; ".join(f"{', '.join(cases)} ({reason})" for reason, cases in by_reason.items())


def require(*cases):
    """Skip the calling module, or test, unless all ``cases`` are in reach."""
    if reason := out_of_reach(*cases):
        pytest.skip(f"reference cases out of reach: {reason}", allow_module_level=True)


def each_of(names, values, *cases):
    """Parametrise a test of ``cases``; where they are out of reach it is one test, which skips."""
    if reason := out_of_reach(*cases):
        mark = pytest.mark.skip(reason=f"reference cases out of reach: {reason}")
        count = 1 if isinstance(names, str) else len(names)
        values = [pytest.param(*[None] * count, marks=mark, id="out-of-reach")]
    return pytest.mark.parametrize(names, values)


def _archive(path):
    with np.load(path) as archive:
        return dict(archive)


def _complete_file(case, name, carried):
    """A file of the complete sets, of which the carried form must exist; ``carried`` says so."""
    if case not in NOT_CARRIED and not carried:
        raise LookupError(
            f"reference cases: a test reads {name!r} of {case!r}, which is not carried. Add it to "
            "FILES in tests/carry_reference_cases.py and run that, or the case to NOT_CARRIED."
        )
    return COMPLETE / case / name


def _same_file(case, name):
    """A file that is carried under its own name."""
    if not is_complete(case):
        return CARRIED / case / name
    return _complete_file(case, name, (CARRIED / case / name).is_file())


def _table_stems(case):
    """The names of the tables that are carried of a case."""
    path = CARRIED / case / "tables.json"
    return set(json.loads(path.read_text())) if path.is_file() else set()


def _matrix_stems(case):
    path = CARRIED / case / "matrices.npz"
    return set(_archive(path)) if path.is_file() else set()


def read_json(case, name="expected.json"):
    return json.loads(_same_file(case, name).read_text())


def read_npz(case, name):
    """Arrays by name; a carried archive names in ``rest`` another that has the others."""
    arrays = _archive(_same_file(case, name))
    if "rest" in arrays:
        arrays = _archive(CARRIED / case / str(arrays.pop("rest"))) | arrays
    return arrays


def read_matrix(case, name):
    """A headerless table of numbers, always two-dimensional."""
    if is_complete(case):
        path = _complete_file(case, name, Path(name).stem in _matrix_stems(case))
        return np.loadtxt(path, delimiter=",", ndmin=2)
    return _archive(CARRIED / case / "matrices.npz")[Path(name).stem]


def read_columns(case, name="data.csv"):
    """The columns of a table with a header, as lists of strings by name."""
    if not is_complete(case):
        return json.loads((CARRIED / case / "tables.json").read_text())[Path(name).stem]
    path = _complete_file(case, name, Path(name).stem in _table_stems(case))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {column: [row[column] for row in rows] for column in rows[0]}


def assert_normwise(actual, expected, rtol):
    """Largest deviation at most ``rtol`` times the largest entry, the norm of error bounds."""
    expected = np.asarray(expected, dtype=float)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * scale)
