"""Which tests concern a file of the package: those that a mutant of it has to pass."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pm_gaussgrad"
# Those with code.
FILES = [
    str(path.relative_to(PACKAGE))
    for floor in ("cov", "kernels", "posterior")
    for path in sorted((PACKAGE / floor).rglob("*.py"))
    if path.name != "__init__.py"
]
# Rows of the tests' registry that use the file, as an expression of pytest -k; modules of tests
# to run first; modules to run last.
TABLE = {
    "cov/series/ar1.py": ("AR1", "ar1", "reference_blocks"),
    "cov/series/regular_ar1.py": ("RegularAR1", "block_diagonal", ""),
    "cov/series/irregular_ar1.py": ("IrregularAR1", "groups", "rows_apart reference_series"),
    "cov/series/noisy_ar1.py": ("NoisyAR1", "groups", "rows_apart"),
    "cov/series/spaced_ar1.py": ("SpacedAR1", "ar1", "missing"),
    "cov/protocol/arguments.py": ("", "edges", "bad_input"),
    "cov/protocol/base.py": ("AR1 or Cholesky", "bad_input", "op distribution"),
    "cov/groups/block_diagonal.py": ("BlockDiagonal", "block_diagonal", "reference_blocks"),
    "cov/matrices/cholesky.py": ("Cholesky", "", "reference_stan reference_highprec"),
    "cov/protocol/composite.py": ("BlockDiagonal or Marginal", "block_diagonal", ""),
    "cov/groups/compound_symmetry.py": (
        "CompoundSymmetry",
        "compound_symmetry",
        "reference_compound_symmetry",
    ),
    "cov/protocol/constants.py": ("", "constants", "bad_input"),
    "cov/protocol/gaps.py": ("Marginal", "missing", "innovations condition loo predict residuals"),
    "cov/groups/grouped_symmetry.py": ("GroupedSymmetry", "groups", "rows_apart"),
    "cov/matrices/dense.py": ("Dense]", "rewrites", "bad_input reference_stan reference_highprec"),
    "cov/matrices/diagonal.py": ("Diagonal and not Low and not Block", "diagonal", "bad_input"),
    "cov/matrices/eigenbasis.py": ("Eigenbasis", "eigenbasis", "reference_eigenbasis"),
    "cov/protocol/information.py": ("", "fisher", "laplace"),
    "cov/protocol/kriging.py": ("", "condition", "predict"),
    "cov/protocol/labels.py": ("", "groups", "repeated_measures bad_input"),
    "cov/grids/kronecker.py": ("Kronecker", "kronecker", "reference_kronecker"),
    "cov/grids/kronecker_axes.py": ("Kronecker", "kronecker kronecker_pair", ""),
    "cov/grids/kronecker_pair.py": ("KroneckerPair", "kronecker_pair", "fisher"),
    "cov/protocol/leaf.py": ("AR1", "op", ""),
    "cov/matrices/low_rank.py": (
        "LowRank",
        "low_rank",
        "reference_low_rank reference_quadrature",
    ),
    "cov/protocol/marginal.py": ("Marginal", "missing", "condition"),
    "cov/matrices/precision.py": ("Precision", "rewrites", "bad_input reference_stan"),
    "cov/protocol/products.py": ("Dense] or Eigenbasis", "innovations", ""),
    "cov/groups/repeated_measures.py": (
        "RepeatedMeasures",
        "repeated_measures",
        "reference_repeated_measures",
    ),
    "cov/protocol/sized.py": ("AR1 or LowRankPlusScalar", "condition", "missing"),
    "cov/protocol/strips.py": ("", "fisher", ""),
    "cov/groups/equal_blocks.py": ("BlockDiagonal", "block_diagonal", "reference_blocks"),
    "cov/groups/together.py": ("BlockDiagonal", "block_diagonal", "reference_blocks"),
    "ops/stacking.py": ("BlockDiagonal", "block_diagonal", ""),
    "kernels/regular_series.py": ("AR1", "ar1 block_diagonal", "reference_blocks"),
    "cov/protocol/declaration.py": ("", "declarations", ""),
    "cov/groups/subjects.py": ("", "repeated_measures", "loo"),
    "cov/protocol/sums.py": ("", "toeplitz compound_symmetry", "bad_input"),
    "cov/grids/toeplitz.py": ("Toeplitz", "toeplitz", "reference_toeplitz"),
    "cov/protocol/triangular.py": ("Cholesky", "triangular", ""),
    "kernels/compound_symmetry.py": ("Symmetry", "compound_symmetry", "edges"),
    "kernels/decay.py": ("IrregularAR1 or NoisyAR1", "groups", "reference_series"),
    "kernels/gaps.py": ("Marginal", "kernels_conditioning", ""),
    "kernels/definite.py": ("Dense] or Precision", "singular", "reference_highprec"),
    "kernels/fft.py": ("Toeplitz", "kernels_toeplitz", ""),
    "kernels/first_order.py": (
        "IrregularAR1 or NoisyAR1",
        "groups",
        "rows_apart reference_series",
    ),
    "kernels/first_order_jax.py": ("IrregularAR1 or NoisyAR1", "", ""),
    "kernels/kronecker.py": ("Kronecker", "kernels_kronecker", "kronecker"),
    "kernels/kronecker_jax.py": ("Kronecker", "", ""),
    "kernels/kronecker_pair.py": ("KroneckerPair", "kronecker_pair", "singular"),
    "kernels/kronecker_pair_jax.py": ("KroneckerPair", "", "singular"),
    "kernels/lapack.py": (
        "Dense] or Kronecker",
        "kernels kernels_gram kernels_matrix_product kernels_substitution",
        "",
    ),
    "kernels/lapack_numba.py": (
        "Dense] or Kronecker",
        "kernels kernels_gram kernels_matrix_product",
        "",
    ),
    "kernels/low_rank.py": ("LowRank", "", "low_rank reference_low_rank"),
    "kernels/patterned_rows.py": ("", "patterned_rows", "missing"),
    "kernels/patterned_rows_jax.py": ("", "patterned_rows", ""),
    "kernels/inner_products.py": ("", "small_ops", "fisher"),
    "kernels/repeated_measures.py": (
        "RepeatedMeasures",
        "repeated_measures",
        "reference_repeated_measures",
    ),
    "kernels/repeated_measures_jax.py": ("RepeatedMeasures", "", ""),
    "kernels/select.py": ("", "small_ops", "missing"),
    "kernels/substitution.py": ("RepeatedMeasures", "kernels_substitution", ""),
    "kernels/symmetric.py": ("Dense] or LowRankPlusScalar", "kernels", "op"),
    "kernels/symmetric_jax.py": ("Dense] or Precision", "triangles", "singular"),
    "kernels/symmetry_by_group.py": ("GroupedSymmetry", "groups", "rows_apart"),
    "kernels/symmetry_by_group_jax.py": ("GroupedSymmetry", "", ""),
    "kernels/toeplitz.py": ("Toeplitz", "kernels_toeplitz", "toeplitz singular reference_toeplitz"),
    "kernels/toeplitz_jax.py": ("Toeplitz", "", "kernels_toeplitz singular"),
    "posterior/axes.py": ("", "residuals", ""),
    "posterior/covariance_plot.py": ("", "residuals", "after_sampling"),
    "posterior/draws.py": ("", "residuals", "predict loo"),
    "posterior/evaluation/adaptive.py": ("", "evaluation", "after_sampling"),
    "posterior/evaluation/cost.py": ("", "evaluation", ""),
    "posterior/evaluation/interpreted.py": ("", "evaluation", ""),
    "posterior/evaluation/loops.py": ("", "evaluation", ""),
    "posterior/leave_out/elpd.py": ("", "loo_arviz", ""),
    "posterior/leave_out/groups.py": ("", "loo", "after_sampling"),
    "posterior/predict/impute.py": ("", "predict", "after_sampling"),
    "posterior/predict/labels.py": ("", "predict", ""),
    "posterior/likelihood.py": ("", "residuals", "loo predict"),
    "posterior/leave_out/loo.py": ("", "loo", "after_sampling reference_loo reference_loo_sar"),
    "posterior/leave_out/moment_match.py": ("", "loo_arviz", ""),
    "posterior/leave_out/observed.py": ("", "loo", "residuals"),
    "posterior/residuals/plots.py": ("", "residuals", "after_sampling"),
    "posterior/predict/predict.py": ("", "predict", "after_sampling"),
    "posterior/leave_out/refit.py": ("", "loo_arviz", "after_sampling"),
    "posterior/residuals/residuals.py": ("", "residuals", ""),
    "posterior/leave_out/terms.py": ("", "loo", "loo_arviz after_sampling"),
    "posterior/residuals/whiteness.py": ("", "residuals", ""),
}
# Of the first modules, the tests to begin with.
BEGIN = {
    "cov/protocol/information.py": "every_structure",
    "cov/protocol/kriging.py": "by_blocks or by_positions or edge_sizes",
    "posterior/axes.py": "picture",
    "posterior/covariance_plot.py": "covariance_picture or drawn",
    "posterior/draws.py": "dimensions or rows or hierarchy",
    "posterior/leave_out/groups.py": "group",
    "posterior/predict/impute.py": "imputed",
    "posterior/likelihood.py": "dimensions or rows or gaps or posterior or model",
    "posterior/leave_out/observed.py": "missing or rows or each_given or student",
    "posterior/residuals/plots.py": "qq or acf or drawn",
    "posterior/predict/predict.py": (
        "numbers_at or mask_and or variances_only or seed_and or containers"
    ),
    "posterior/residuals/residuals.py": "rows or gaps or one_observation or dimensions",
    "posterior/residuals/whiteness.py": "simultaneous or order_statistics or autocorrelation",
}
# For a file that is not in the table and that no test names.
GENERAL = ("", "random_structures", "structures")
INTERPRETED = "not numba and not jax and not sampling"


def _imported(path: Path) -> set[str]:
    """What a file imports from the package, with dots."""
    nodes = ast.walk(ast.parse(path.read_text()))
    places = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {f"{node.module}.{x.name}" for node in places for x in node.names} | {
        node.module for node in places
    }


def _users(file: str) -> list[str]:
    """The file and those of its floors that import it, directly or not."""
    imported = {other: _imported(PACKAGE / other) for other in FILES}
    found = [file]
    for user in found:
        module = ".".join((PACKAGE.name, *Path(user).with_suffix("").parts))
        found += [x for x in FILES if x not in found and module in imported[x]]
    return found


def concerning(file: str) -> tuple[str, str, str]:
    """What the table says of a file; else the rows and tests that name what is in it.

    A new structure needs no line of the table for its mutants to be tried.
    """
    if file in TABLE:
        return TABLE[file]
    registry = (ROOT / "tests" / "registry.py").read_text()
    named = set(re.findall(r'Case\(\s*"(\w+)"', registry))
    trees = (ast.parse((PACKAGE / user).read_text()) for user in _users(file))
    rows = {node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    module = ".".join((PACKAGE.name, *Path(file).with_suffix("").parts))
    tests = [
        test.stem.removeprefix("test_")
        for test in sorted((ROOT / "tests").glob("test_*.py"))
        if module in _imported(test) or test.stem == f"test_{Path(file).stem}"
    ]
    if not (rows & named or tests):
        return GENERAL
    return " or ".join(sorted(rows & named)), " ".join(tests), ""


def _not_compiled(module: str, jax: bool) -> str:
    """The tests of a module that interpret what is changed; its name is a part of theirs."""
    excluded = ["numba", *([] if jax else ["jax"]), "sampling"]
    return " and ".join(f"not {word}" for word in excluded if word not in module)


def stages(file: str, jax: bool) -> list[tuple[list[str], str]]:
    """Modules of tests and a pytest -k each, for a change of a file or of its form for JAX."""
    rows, first, last = concerning(file)
    kernels = [module for module in first.split() if module.startswith("kernels")]
    of_rows = []
    if rows:
        # A twin of every output of a structure says most in the least time.
        way = "jax" if jax else INTERPRETED
        of_rows = [("structures", f"({rows}) and dense_twin and {way}")]
        of_rows += [("structures", f"({rows}) and {way}")]
        modules = ("structures", "innovations", "missing", "condition", "op", "fisher", "residuals")
        rest = [(module, f"({rows}) and {INTERPRETED}") for module in modules]
        rest += [("structures", f"({rows}) and not numba"), ("op", f"({rows}) and not numba")]
    own = [(first.split()[0], f"({BEGIN[file]}) and {INTERPRETED}")] if file in BEGIN else []
    others = [module for module in first.split() if module not in kernels] + last.split()
    own += [(module, _not_compiled(module, jax)) for module in others]
    chosen = [(module, INTERPRETED) for module in kernels] + of_rows
    chosen += own + rest if rows else own
    return [([f"tests/test_{module}.py"], k) for module, k in chosen]
