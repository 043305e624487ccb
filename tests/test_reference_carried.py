"""What is carried of the reference cases: small, with provenance, and equal to its source."""

import json

import numpy as np
import pytest
import reference_cases
from carry_reference_cases import FILES
from reference_cases import (
    CARRIED,
    NOT_CARRIED,
    each_of,
    is_complete,
    out_of_reach,
    read_columns,
    read_json,
    read_matrix,
    read_npz,
)

PATHS = [path for path in sorted(CARRIED.rglob("*")) if path.is_file()]
OWN = {path.parent.relative_to(CARRIED).as_posix() for path in PATHS if path.suffix != ".md"}


def readings(case):
    """How the tests read each thing that is carried of a case: a reader and a file's name."""
    for path in sorted((CARRIED / case).glob("*.*")):
        if path.name == "matrices.npz":
            with np.load(path) as archive:
                yield from ((read_matrix, f"{stem}.csv") for stem in archive)
        elif path.name == "tables.json":
            tables = json.loads(path.read_text())
            yield from ((read_columns, f"{stem}.csv") for stem in tables)
        else:
            yield {".json": read_json, ".npz": read_npz}[path.suffix], path.name


def bits(content):
    """Arrays by type, shape and bytes, all else as text, in which numbers have all digits."""
    if isinstance(content, np.ndarray):
        return content.dtype, content.shape, content.tobytes()
    if isinstance(content, dict) and any(isinstance(x, np.ndarray) for x in content.values()):
        return {name: bits(x) for name, x in content.items()}
    return json.dumps(content)


@pytest.mark.skipif(not all(map(is_complete, FILES)), reason="the complete sets are out of reach")
def test_every_number_is_that_of_the_complete_sets(monkeypatch):
    complete = {(case, *r): bits(r[0](case, r[1])) for case in OWN for r in readings(case)}
    monkeypatch.setenv("REFERENCE_CASES", "carried")
    for (case, reader, name), expected in complete.items():
        assert bits(reader(case, name)) == expected, (case, name)


@pytest.mark.parametrize("read", [read_json, read_npz, read_matrix, read_columns])
def test_what_is_not_carried_is_not_read(read, monkeypatch):
    """Of a case that may be carried, whatever lies in the complete sets."""
    monkeypatch.setattr(reference_cases, "is_complete", lambda case: True)
    with pytest.raises(LookupError, match="of 'peer_scipy', which is not carried"):
        read("peer_scipy", "other.npz")


def test_nothing_else_is_carried():
    assert set(FILES) == OWN
    assert not OWN & set(NOT_CARRIED)


def test_what_is_carried_is_small():
    sizes = [path.stat().st_size for path in PATHS]
    assert max(sizes) < 300e3
    assert sum(sizes) < 2e6


@pytest.mark.parametrize("case", sorted({case.partition("/")[0] for case in FILES}))
def test_provenance(case):
    assert f"| `{case}` |" in (CARRIED / "README.md").read_text()


def test_reasons(monkeypatch):
    """One skip for a test of cases that are neither carried nor in reach, with all reasons."""
    monkeypatch.setenv("REFERENCE_CASES", "carried")
    assert out_of_reach("highprec", "stan_autodiff/ar1_lh") == ""
    reason = out_of_reach("highprec", "pdb_rats", "peer_stan_math", "pdb_sblri")
    assert reason.startswith("pdb_rats, pdb_sblri (may not be carried, ")
    assert "; peer_stan_math (may not be carried, " in reason
    [parameters] = each_of(("case", "name"), [(1, 2), (3, 4)], "pdb_rats").args[1]
    assert parameters.values == (None, None)
    assert "pdb_rats" in parameters.marks[0].kwargs["reason"]


def test_the_environment_puts_the_complete_sets_out_of_reach(monkeypatch, tmp_path):
    monkeypatch.setattr(reference_cases, "COMPLETE", tmp_path)
    monkeypatch.delenv("REFERENCE_CASES", raising=False)
    (tmp_path / "highprec").mkdir()
    assert is_complete("highprec")
    assert not is_complete("peer_scipy")
    monkeypatch.setenv("REFERENCE_CASES", "carried")
    assert not is_complete("highprec")
    monkeypatch.setenv("REFERENCE_CASES", "both")
    with pytest.raises(ValueError, match="expected 'complete' or 'carried'"):
        is_complete("highprec")
