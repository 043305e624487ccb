"""What remains of a structure with kernels when its tensors are taken away: a value.

An Op holds a :class:`Form` beside its tensors. Two structures that differ in a fact have different
Ops, compiled functions and cache keys; facts are integers, tensors are inputs.

Declared shapes are strings of dimensions. A dimension is a name, an integer or a fact; what is
declared once and ``repeated`` by a fact, as the factors of a product are, stands for as many arrays
as the fact says, and its dimensions that end in ``_i`` are those of each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Form:
    """The class of a structure and its integer facts.

    Attributes
    ----------
    kind : type
        With kernels, shapes and all else that does not depend on the facts.
    facts : tuple of (str, int)
        Their names and values.
    """

    kind: type
    facts: tuple[tuple[str, int], ...] = ()

    def __post_init__(self):
        for name, value in self.facts:
            if not isinstance(value, int | np.integer):
                raise TypeError(
                    f"{self.kind.label}: the fact `{name}` is {value!r}, expected an integer; what "
                    "is not is a parameter."
                )

    def __getattr__(self, name):
        # What is not said below is as the class says it; unpickling asks before there is one.
        if name.startswith("__") or "kind" not in vars(self):
            raise AttributeError(name)
        return getattr(self.kind, name)

    @property
    def __name__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self.facts)
        return f"{self.kind.__name__}({facts})" if facts else self.kind.__name__

    @cached_property
    def parameter_shapes(self) -> dict[str, str]:
        """Core shape of each parameter, in order."""
        return dict(self._arrays(self.kind.parameter_shapes))

    @cached_property
    def saved_shapes(self) -> dict[str, str]:
        """Core shapes of the arrays that the forward kernel saves."""
        return dict(self._arrays(self.kind.saved_shapes))

    @cached_property
    def constant_parameters(self) -> frozenset[str]:
        """Names of the parameters without a gradient."""
        members = (self.members(name) or (name,) for name in self.kind.constant_parameters)
        return frozenset(name for names in members for name in names)

    def members(self, name: str) -> tuple[str, ...] | None:
        """Names of the arrays that a repeated declaration stands for; None where it is not."""
        fact = self.kind.repeated.get(name)
        return None if fact is None else tuple(f"{name}_{i}" for i in range(dict(self.facts)[fact]))

    def results(self, declared) -> tuple[str | tuple[str, ...], ...]:
        """Of declared names: the name of one array, or those that a kernel returns together."""
        return tuple(self.members(name) or name for name in declared)

    def _arrays(self, shapes) -> Iterator[tuple[str, str]]:
        values = {name: str(value) for name, value in self.facts}
        for name, dims in shapes.items():
            own = [values.get(dim, dim) for dim in dims.split()]
            members = self.members(name)
            if members is None:
                yield name, " ".join(own)
            for i, member in enumerate(members or ()):
                yield member, " ".join(f"{d[:-1]}{i}" if d.endswith("_i") else d for d in own)

    def from_parameters(self, *parameters, size=None):
        """Rebuild the structure from its tensors."""
        rebuilt = self.kind.from_parameters(*parameters, size=size)
        vars(rebuilt).update(self.facts)
        return rebuilt


def named_parameters(structure, parameters) -> list[tuple]:
    """The declared name and core shape of each tensor, and the tensor."""
    shapes = structure.parameter_shapes
    if len(parameters) != len(shapes):
        raise TypeError(
            f"{structure.label}: `parameters` holds {len(parameters)} tensors, expected one for "
            f"each that is declared, {list(shapes)}."
        )
    return [(*named, tensor) for named, tensor in zip(shapes.items(), parameters, strict=True)]


def as_form(structure):
    """A class without facts as its form; forms as they are."""
    return Form(structure) if isinstance(structure, type) else structure
