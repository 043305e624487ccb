"""Write into ``tests/reference`` what is carried of the complete reference cases.

Run by hand, ``python tests/carry_reference_cases.py``, where the complete sets or the list below
have changed. Numbers keep every bit, which ``test_reference_carried.py`` checks:

expected.json, index.json  as they are, without white space
matrices.npz               the headerless tables, compressed, by file name
tables.json                the tables with a header, by file name and column, cells as text
others (.npz)              compressed; ``*_rough.npz`` without the arrays of its ``*_draw.npz``
"""

import json

import numpy as np
from reference_cases import CARRIED, COMPLETE, is_complete, read_columns, read_matrix, read_npz

MIXED_MODEL = ["expected.json", "data.csv", "X.csv", "y.csv", "Sigma_at_ML.csv"]
TABLE, ARRAYS = ["expected.json", "data.csv"], ["expected.json", "data.npz"]

# The files that tests read, of the cases that may be carried.
FILES = {
    "gls_orthodont_cs": [*TABLE, "Sigma_at_ML.csv"],
    "gls_ovary_car1": TABLE,
    "highprec": [
        "index.json",
        "*_draw.npz",
        "*_rough.npz",
        "param_ar1_*.npz",
        "param_car_*.npz",
        "param_celerite_*.npz",
        "param_cs_*.npz",
        "param_se_*.npz",
    ],
    "lmm_dyestuff": MIXED_MODEL,
    "lmm_orthodont": MIXED_MODEL,
    "lmm_penicillin_crossed": MIXED_MODEL,
    "lmm_sleepstudy": MIXED_MODEL,
    "lowrank_fa_wine": ARRAYS,
    "meta_konstantopoulos_3level": TABLE,
    "peer_scipy": ["expected.json"],
    "phylo_primates5": [*TABLE, "vcv.csv"],
    "sm_co2_weekly_missing_ar1": ARRAYS,
    "sm_dietox_mixedlm": ARRAYS,
    "sm_lme_R": ["expected.json", "lme*.csv"],
    "sm_macro_infl_ar4_reg": ARRAYS,
    "sm_sunspots_ar3": ARRAYS,
    "spatial_car_ncsids_null": [*TABLE, "W.csv"],
    "spatial_sar_error_columbus": [*TABLE, "W.csv"],
    "stan_autodiff/ar1_lh": ["expected.json", "X.csv", "y.csv"],
    "stan_autodiff/car_ncsids": ["expected.json", "X.csv", "y.csv", "W.csv"],
    "stan_autodiff/celerite_60": ["expected.json", "D.csv", "X.csv", "y.csv"],
    "stan_autodiff/dense12_chol": ["expected.json", "X.csv", "y.csv", "S.csv", "dS.csv"],
    "stan_autodiff/dense12_cov": ["expected.json", "X.csv", "y.csv", "S.csv", "dS.csv"],
    "stan_autodiff/phylo_pagel_mammals": ["expected.json", "X.csv", "y.csv", "K1.csv"],
    "stan_autodiff/vc_penicillin": ["expected.json", "X.csv", "y.csv", "K[123].csv"],
    "tinygp_quasisep": ARRAYS,
    "ts_lakehuron_ar2_trend": TABLE,
    "ts_lh_ar1": TABLE,
    "ts_lh_arma11": TABLE,
    "ts_nile_ar2": TABLE,
    "ts_nile_local_level": TABLE,
}


def write_json(path, content):
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def arrays_of(case, name):
    """The arrays of an archive, those that it shares with another replaced by its name."""
    arrays, other = read_npz(case, name), name.replace("_rough", "_draw")
    if other == name:
        return arrays
    twin = read_npz(case, other)
    own = {k: x for k, x in arrays.items() if x.tobytes() != twin[k].tobytes()}
    return own | {"rest": np.array(other)}


def carry(case, patterns):
    folder = CARRIED / case
    folder.mkdir(parents=True, exist_ok=True)
    matrices, tables = {}, {}
    for path in sorted(p for pattern in patterns for p in (COMPLETE / case).glob(pattern)):
        if path.suffix == ".json":
            write_json(folder / path.name, json.loads(path.read_text()))
        elif path.suffix == ".npz":
            np.savez_compressed(folder / path.name, **arrays_of(case, path.name))
        elif path.stem.startswith(("data", "lme")):
            tables[path.stem] = read_columns(case, path.name)
        else:
            matrices[path.stem] = read_matrix(case, path.name)
    if matrices:
        np.savez_compressed(folder / "matrices.npz", **matrices)
    if tables:
        write_json(folder / "tables.json", tables)


if __name__ == "__main__":
    for case, patterns in FILES.items():
        assert is_complete(case), f"{COMPLETE / case} is out of reach"
        carry(case, patterns)
