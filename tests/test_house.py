"""The shape of the package: floors without circles, small rooms, declared and documented shapes."""

import ast
import inspect
import re
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import pm_gaussgrad as gg
from pm_gaussgrad.cov.protocol.composite import Composite
from pm_gaussgrad.cov.series.process import Process

PACKAGE = Path(gg.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# A module may import from its own floor and from those below.
FLOORS = [
    "kernels",
    "ops",
    "cov",
    "likelihood",
    "distributions",
    "gradient",
    "information",
    "posterior",
    "adopt",
]
DOCS = PACKAGE.parent / "docs"
EXPORTED = [
    kind
    for name in gg.cov.__all__
    if isinstance(kind := getattr(gg.cov, name), type) and kind is not gg.cov.Covariance
]
# Singular alone: in the registry with the noise that makes it a covariance.
SUMMANDS = {gg.cov.LowRank, gg.cov.Linear, gg.cov.Projected, gg.cov.Effects, gg.cov.ICAR}
# Constructors of a structure that is in the registry, and documented, under its own name.
PROCESSES = {kind for kind in EXPORTED if issubclass(kind, Process)}
CONSTRUCTORS = {gg.cov.BYM2, gg.cov.CAR, gg.cov.Leroux, gg.cov.SAR} | PROCESSES
FAMILIES = {path.name for path in (PACKAGE / "cov").iterdir() if path.is_dir()} - {
    "protocol",
    "__pycache__",
}
# What the arguments of distributions and densities become, on every floor.
MATRICES = {"Dense", "Cholesky", "Precision"}


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


def test_layout():
    """No loose modules but the front doors; a kernel's JAX twin lies beside it."""
    for folder in (PACKAGE, PACKAGE / "cov"):
        assert [path.name for path in folder.glob("*.py")] == ["__init__.py"]
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"} == {*FLOORS}
    for twin in PACKAGE.rglob("*_jax.py"):
        assert twin.with_name(twin.name.replace("_jax", "")).exists()


def _knows_no_structure(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] != "kernels" and not (parts[0] == "cov" and parts[1] in FAMILIES)


@pytest.mark.parametrize(
    "path", filter(_knows_no_structure, MODULES), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_structures_are_named_in_their_own_files(path):
    """Elsewhere a list of them would have to be kept up with; matrices are arguments, too."""
    if path == PACKAGE / "cov" / "__init__.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pm_gaussgrad.cov"):
            family = node.module.split(".")[2:3]
            assert {alias.name for alias in node.names} <= MATRICES or family not in (
                [name] for name in FAMILIES
            ), node.module
    named = {x.__name__ for x in EXPORTED if re.search(rf"\b{x.__name__}\b", path.read_text())}
    assert len(named - MATRICES) <= 2, named


@pytest.mark.parametrize("structure", EXPORTED, ids=lambda s: s.__name__)
def test_one_file_one_export_one_page(structure):
    *_, family, module = structure.__module__.split(".")
    assert family in FAMILIES
    assert module.replace("_", "") == structure.__name__.lower()
    head, _, _ = (DOCS / "structures" / f"{module}.md").read_text().partition("\n---\n\n")
    assert re.search(rf"^structure: '`{structure.__name__}\(.* \| .* \| .* \| .*'$", head, re.M)
    assert f"`{structure.__name__}" in (PACKAGE.parent / "README.md").read_text()


def test_no_generated_kernels():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Name) and called.id in ("exec", "eval")), path


@pytest.mark.parametrize("structure", EXPORTED, ids=lambda s: s.__name__)
def test_documented_shapes_are_the_declared_ones(structure):
    if structure in CONSTRUCTORS:
        return
    for name, dims in structure.parameter_shapes.items():
        match = re.search(
            rf"^\*?{name} : .*shape (.*), in units of", inspect.getdoc(structure), re.M
        )
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


def _tested():
    from registry import CASES

    tested = {type(case.build(2, *case.tensors())) for case in CASES}
    # An exported class may be built as one of its subclasses.
    return tested | {base for kind in tested for base in kind.__bases__}


def _subclasses(kind):
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def test_every_structure_is_in_the_registry():
    assert _tested() >= set(EXPORTED) - SUMMANDS - CONSTRUCTORS


def test_every_class_that_is_built_is_in_the_registry():
    """Not only those with names for users: what sums, marginals and other constructors return."""
    from pm_gaussgrad.cov.areal.known_spectrum import ArealField
    from pm_gaussgrad.cov.graphs.flat_means import FlatMeans
    from pm_gaussgrad.cov.graphs.latents import Latents
    from pm_gaussgrad.cov.matrices.flat_coefficients import FlatCoefficients, FlatLinear
    from pm_gaussgrad.cov.matrices.precision import ConstantPrecision
    from pm_gaussgrad.cov.protocol.leaf import Leaf, ScalarLeaf
    from pm_gaussgrad.cov.protocol.sum import Sum
    from pm_gaussgrad.cov.protocol.sums import _RULES

    tested = _tested()
    built = {kind for pair in _RULES for kind in pair} | set(_subclasses(gg.cov.Covariance))
    built = {kind for kind in built if kind.__module__.startswith("pm_gaussgrad")}
    # Of the products one number of factors is tested here, others in test_kronecker.py.
    untested = {kind for kind in built - tested if not tested & set(kind.__bases__) - {Leaf}}
    # What sums come to is there: test_sums.py. The form that a compiled graph has of a constant
    # Precision: test_rewrites.py.
    # Flat coefficients and means have no covariance: test_linear.py, test_intrinsic.py. The
    # determinant of areal models is known beside the matrix: test_areal.py. What users name of
    # processes is a StateSpace.
    untested -= {Leaf, ScalarLeaf, Sum, ConstantPrecision, FlatMeans, ArealField, *CONSTRUCTORS}
    untested -= {FlatCoefficients, FlatLinear}
    assert untested <= {*SUMMANDS, *PROCESSES, Latents, Composite}


def _needed(requirements):
    """Names of distributions: the required ones, and what these require in turn."""
    found, open_ = set(), [Requirement(r) for r in requirements]
    while open_:
        requirement = open_.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        extras = requirement.extras or {""}
        if (name, *extras) in found:
            continue
        found.add((name, *extras))
        try:
            more = [Requirement(r) for r in metadata.requires(requirement.name) or []]
        except metadata.PackageNotFoundError:
            continue  # the tests do without what only builds the pages
        open_ += [
            r for r in more if not r.marker or any(r.marker.evaluate({"extra": e}) for e in extras)
        ]
    return {name for name, *_ in found}


def _page_imports():
    """Modules that running the documentation imports, and where."""
    code = {path: path.read_text() for path in DOCS.rglob("*.py")}
    for path in DOCS.rglob("*.md"):
        cells = re.findall(r"^```{code-cell}.*?\n(.*?)^```", path.read_text(), re.M | re.S)
        code[path] = "\n".join(re.sub(r"^:tags:.*$", "", cell, flags=re.M) for cell in cells)
    for path, text in code.items():
        for node in ast.walk(ast.parse(text)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            yield from ((name.partition(".")[0], path.name) for name in names)
        if '"JAX"' in text:  # a mode of PyTensor
            yield "jax", path.name


def test_the_docs_extra_runs_the_pages():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    needed = _needed([*project["dependencies"], *project["optional-dependencies"]["docs"]])
    distributions = metadata.packages_distributions()
    own = {PACKAGE.name, *(path.stem for path in DOCS.rglob("*.py")), *sys.stdlib_module_names}
    for module, page in sorted(set(_page_imports())):
        provided = {re.sub(r"[-_.]+", "-", d).lower() for d in distributions.get(module, [])}
        assert module in own or provided & needed, f"{page} imports {module}"
