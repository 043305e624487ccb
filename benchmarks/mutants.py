"""Mutants of the package: small changes of its code that should change what it computes.

Cosmic Ray's operators find and make them; one more is here. Left out is what no number depends
on: text of errors and formatted text, annotations, decorators, ``strict=`` of ``zip``.
"""

import ast
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

BINARY = (
    "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_FloorDiv Pow_Mul BitAnd_BitOr BitOr_BitAnd"
)
COMPARISON = "Eq_NotEq NotEq_Eq Lt_LtE LtE_Lt Gt_GtE GtE_Gt Is_IsNot IsNot_Is"
UNARY = "Delete_USub Delete_Invert Delete_Not"
OTHERS = (
    "AddNot ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceAndWithOr ReplaceOrWithAnd "
    "ReplaceBreakWithContinue ReplaceContinueWithBreak NumberReplacer ZeroIterationForLoop"
)


class ReplaceAugmentedAssignment(Operator):
    """``x += y`` becomes ``x = y`` or ``x -= y``, and so on."""

    INTO = {
        "+=": ("=", "-="),
        "-=": ("=", "+="),
        "*=": ("=", "/="),
        "/=": ("=", "*="),
        "//=": ("=", "*="),
    }

    def mutation_positions(self, node):
        if isinstance(node, parso.python.tree.Operator):
            for _ in self.INTO.get(node.value, ()):
                yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        node.value = self.INTO[node.value][index]
        return node

    @classmethod
    def examples(cls):
        return ()


_ALL = [
    ReplaceAugmentedAssignment,
    *(get_operator(f"core/ReplaceBinaryOperator_{name}") for name in BINARY.split()),
    *(get_operator(f"core/ReplaceComparisonOperator_{name}") for name in COMPARISON.split()),
    *(get_operator(f"core/ReplaceUnaryOperator_{name}") for name in UNARY.split()),
    *(get_operator(f"core/{name}") for name in OTHERS.split()),
]
# By name, since a class that Cosmic Ray makes cannot be sent to another process.
OPERATORS = {operator.__name__: operator for operator in _ALL}


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes
    ----------
    file
        Relative to the package.
    line, column
        Where the change is.
    operator
        What makes it, by name.
    occurrence
        The how manieth change of this operator in the file.
    """

    file: str
    line: int
    column: int
    operator: str
    occurrence: int

    def apply(self, package: Path) -> tuple[str, str, str]:
        """The changed file, and the lines that differ before and after."""
        source = (package / self.file).read_text()
        changed = mutate_code(source, OPERATORS[self.operator](), self.occurrence)
        pairs = zip_longest(source.splitlines(), changed.splitlines(), fillvalue="")
        before, after = zip(*((a.strip(), b.strip()) for a, b in pairs if a != b), strict=True)
        return changed, " / ".join(before), " / ".join(after)


def _silent_spans(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a change does not show: (line, column) of the beginning and the end of each place."""
    silent = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.ImportFrom):
            silent.append(node)
        elif isinstance(node, ast.FunctionDef):
            silent += [*node.decorator_list, node.returns]
        elif isinstance(node, ast.ClassDef):
            silent += node.decorator_list
        elif isinstance(node, ast.arg | ast.AnnAssign):
            silent.append(node.annotation)
        elif isinstance(node, ast.keyword) and node.arg == "strict":
            silent.append(node.value)
    return [
        ((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset))
        for n in silent
        if n is not None
    ]


def mutants_of(package: Path, file: str) -> list[Mutant]:
    """All mutants of a file, in order of their places."""
    source = (package / file).read_text()
    silent, nodes = _silent_spans(source), list(ast_nodes(get_ast(source)))
    found = []
    for name, operator in OPERATORS.items():
        places = [start for node in nodes for start, _ in operator().mutation_positions(node)]
        found += [
            Mutant(file, *place, name, occurrence)
            for occurrence, place in enumerate(places)
            if not any(begin <= place < end for begin, end in silent)
        ]
    return sorted(found, key=lambda m: (m.line, m.column, m.operator, m.occurrence))


def sample(package: Path, files: Iterable[str], count: int, seed: int) -> list[Mutant]:
    """As many places of each file as its share of all places, and of each place one mutant."""
    rng = random.Random(seed)
    places = []
    for file in files:
        at_place = defaultdict(list)
        for mutant in mutants_of(package, file):
            at_place[mutant.line, mutant.column].append(mutant)
        in_order = list(at_place.values())
        rng.shuffle(in_order)
        # The j-th of s places of a file ranks at (j + 1/2) / s among those of all files.
        places += [((j + rng.random()) / len(in_order), p) for j, p in enumerate(in_order)]
    places.sort(key=lambda ranked: ranked[0])
    chosen = [rng.choice(mutants) for _, mutants in places[:count]]
    return sorted(chosen, key=lambda m: (m.file, m.line, m.column))
