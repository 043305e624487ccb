"""The shape of the package: floors without circles, small rooms, declared and documented shapes."""

import ast
import inspect
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pm_gaussgrad as gg

PACKAGE = Path(gg.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# A module may import from its own floor and from those below.
FLOORS = [
    "kernels",
    "ops",
    "cov",
    "missing",
    "density",
    "condition",
    "distribution",
    "student",
    "rewrites",
    "audit",
    "gradient",
    "fisher",
    "unconstrained",
    "laplace",
    "posterior",
]
EXPORTED = [
    kind
    for name in gg.cov.__all__
    if isinstance(kind := getattr(gg.cov, name), type) and kind is not gg.cov.Covariance
]
# Singular alone: in the registry with the noise that makes it a covariance.
SUMMANDS = {gg.cov.LowRank}


def _floor(module: str) -> str:
    return module.removeprefix("pm_gaussgrad.").partition(".")[0]


def _imports(path):
    """Modules of this package that a file imports, and from inside which function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pm_gaussgrad"):
            if node.module == "pm_gaussgrad":
                yield from (f"pm_gaussgrad.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("pm_gaussgrad."))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    relative = path.relative_to(PACKAGE)
    if relative.name == "__init__.py" and len(relative.parts) == 1:
        return  # the front door shows every floor
    own = relative.parts[0].removesuffix(".py")
    for imported in _imports(path):
        assert FLOORS.index(_floor(imported)) <= FLOORS.index(own), (path, imported)


def test_no_circles():
    """Not within a floor either, and not by imports inside functions."""
    graph = {}
    for path in MODULES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(p for p in parts if p != "__init__")
        graph[name] = {imported for imported in _imports(path) if imported != name}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_are_small(path):
    source = path.read_text()
    assert len(source.splitlines()) < 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 50, f"{path.name}: {node.name} has {length} lines"


@pytest.mark.parametrize("structure", EXPORTED, ids=lambda s: s.__name__)
def test_documented_shapes_are_the_declared_ones(structure):
    for name, dims in structure.parameter_shapes.items():
        match = re.search(rf"^{name} : .*shape (.*), in units of", inspect.getdoc(structure), re.M)
        assert match, f"{structure.__name__}: `{name}` needs a shape and units in the docstring"
        documented = match.group(1).rpartition("(")[2].rstrip(")")
        core = [d.strip() for d in documented.split(",") if d.strip() not in ("...", "")]
        assert core == dims.split()


@pytest.mark.parametrize("structure", EXPORTED, ids=lambda s: s.__name__)
@pytest.mark.parametrize("section", ["Parameters", "Raises", "Notes", "References", "Examples"])
def test_docstrings_are_whole(structure, section):
    assert re.search(rf"^{section}\n-+$", inspect.getdoc(structure), re.M)


def _documented_defaults():
    """Functions of the package that name defaults, and these: (parameter, text)."""
    methods = (m for kind in EXPORTED for _, m in inspect.getmembers(kind, inspect.isfunction))
    exported = (x for name in gg.__all__ if inspect.isfunction(x := getattr(gg, name)))
    for function in {*methods, *exported}:
        text = inspect.getdoc(function) or ""
        if found := re.findall(r"^(\w+) : .*, default (.*)$", text, re.M):
            yield function, found


def test_documented_defaults_are_the_real_ones():
    checked = set()
    for function, documented in _documented_defaults():
        actual = inspect.signature(function).parameters
        found = [(name, repr(actual[name].default)) for name, _ in documented]
        assert found == documented, function.__qualname__
        checked.add(function)
    assert checked >= {gg.impute, gg.predict, gg.cov.Eigenbasis.rotate}


def test_every_structure_is_in_the_registry():
    from registry import CASES

    tested = {type(case.build(2, *case.tensors())) for case in CASES}
    # An exported class may be built as one of its subclasses.
    tested |= {base for kind in tested for base in kind.__bases__}
    assert tested >= set(EXPORTED) - SUMMANDS
