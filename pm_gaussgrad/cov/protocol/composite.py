"""Covariances made of other covariances: no kernels, a graph of their parts' primitives.

A random variable or a log density holds tensors and, as a fact of its Op, a hashable structure
from which :class:`~pm_gaussgrad.cov.protocol.base.Covariance` objects are rebuilt. For a leaf that
is its form. For a composite it is a :class:`Composition`: its class, the structures of its parts,
their sizes, where these are integers, and which tensors they share: of a thousand blocks with the
same two parameters there are two.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import pytensor.tensor as pt

from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.cov.protocol.plan import Plan
from pm_gaussgrad.cov.protocol.sums import summands_of
from pm_gaussgrad.ops import assemble


@dataclass(frozen=True)
class Composition:
    """What remains of a composite when the tensors are taken away.

    Attributes
    ----------
    kind : type
        The subclass of :class:`Composite`.
    structures : tuple
        The structures of the parts, forms of leaves or compositions.
    sizes : tuple of int or None
        Sizes of the parts; None where the parameters say it.
    places : tuple of int
        Of each parameter of each part, in order, its place among the different ones.
    """

    kind: type
    structures: tuple
    sizes: tuple[int | None, ...]
    places: tuple[int, ...]

    @property
    def label(self) -> str:
        """The name that users know the structure by."""
        return self.kind.label_of(self.structures)

    @property
    def __name__(self) -> str:
        parts = ", ".join(structure.__name__ for structure in self.structures)
        return f"{self.kind.__name__}({parts})"

    @cached_property
    def _declared(self) -> list[tuple[str, str, bool]]:
        """Of each parameter of each part: its name, core shape, and whether it has no gradient.

        Names and dimensions carry the part's number, but for what parts have in common.
        """
        common = {"n"} if self.kind.same_observations else set()
        return [
            (
                f"{self.kind.part_name}_{i}_{name}",
                " ".join(dim if dim in common else f"{dim}_{i}" for dim in dims.split()),
                name in structure.constant_parameters,
            )
            for i, structure in enumerate(self.structures)
            for name, dims in structure.parameter_shapes.items()
        ]

    @cached_property
    def parameter_shapes(self) -> dict[str, str]:
        """Core shapes of the different parameters, named by the first part that has them."""
        first = {}
        for place, (name, dims, _) in zip(self.places, self._declared, strict=True):
            first.setdefault(place, (name, dims))
        return dict(first.values())

    @cached_property
    def constant_parameters(self) -> frozenset[str]:
        """Names of the parameters without a gradient in any part."""
        names = list(self.parameter_shapes)
        declared = list(zip(self.places, self._declared, strict=True))
        free = {names[place] for place, (*_, constant) in declared if not constant}
        return frozenset(self.parameter_shapes) - free

    def of_parts(self, different) -> list:
        """What belongs to each of the different parameters, for each parameter of each part."""
        return [different[place] for place in self.places]

    def from_parameters(self, *parameters, size=None) -> "Composite":
        """Rebuild from the tensors that ``parameters`` flattened it to.

        They say the size, unless all parts are of the same observations and of scalars.
        """
        remaining, parts = self.of_parts(parameters), []
        for structure, part_size in zip(self.structures, self.sizes, strict=True):
            if part_size is None and self.kind.same_observations:
                part_size = size
            count = len(structure.parameter_shapes)
            own, remaining = remaining[:count], remaining[count:]
            parts.append(structure.from_parameters(*own, size=part_size))
        return self._assemble(parts)

    def _assemble(self, parts) -> "Composite":
        return self.kind.from_parts(parts, self.sizes)


class Composite(Covariance):
    """A covariance whose methods are graphs of those of its ``parts``.

    Attributes
    ----------
    parts : tuple of Covariance
    sizes : tuple of int or scalar tensor
        The parts' numbers of observations.
    part_name : str
        What a part is called in the names of parameters.
    same_observations : bool
        Whether each part is a covariance of all the observations.
    """

    part_name: ClassVar[str] = "part"
    same_observations: ClassVar[bool] = False
    parts: tuple[Covariance, ...]
    sizes: tuple

    @classmethod
    def label_of(cls, structures) -> str:
        """The name that users know a composite of these parts by."""
        return cls.label

    @classmethod
    def from_parts(cls, parts, sizes=None) -> "Composite":
        """Rebuild from the parts, and from sizes where they are known as integers."""
        rebuilt = object.__new__(cls)
        rebuilt.parts = tuple(parts)
        sizes = [None] * len(rebuilt.parts) if sizes is None else sizes
        rebuilt.sizes = tuple(
            cov.size if size is None else size
            for cov, size in zip(rebuilt.parts, sizes, strict=True)
        )
        return rebuilt

    def _of_parts(self):
        return (p for part in self.parts for p in part.parameters)

    @property
    def parameters(self):
        """The different parameters of all parts, in order."""
        return tuple(dict.fromkeys(self._of_parts()))

    @property
    def structure(self):
        """Hashable, with ``from_parameters``."""
        sizes = tuple(size if isinstance(size, int) else None for size in self.sizes)
        place = {p: i for i, p in enumerate(dict.fromkeys(self._of_parts()))}
        places = tuple(place[p] for p in self._of_parts())
        return Composition(type(self), tuple(part.structure for part in self.parts), sizes, places)

    def plan(self):
        return Plan(self.label, self.how, tuple(dict.fromkeys(part.plan() for part in self.parts)))

    @property
    def dtype(self):
        return self.parts[0].dtype

    def check_constants(self, n=None):
        n = n if self.same_observations else None
        for part, size in zip(self.parts, self.sizes, strict=True):
            part.check_constants(size if isinstance(size, int) else n)

    def __repr__(self):
        return f"{self.label}({', '.join(map(repr, self.parts))})"


def known_size(owner: str, name: str, cov: Covariance):
    """The size of a part; a ValueError where neither an integer nor its parameters say it."""
    if isinstance(cov.size, int):
        return cov.size
    summands = summands_of(cov)
    sizes = [part.structure.from_parameters(*part.parameters).size for part in summands]
    size = next((size for size in sizes if size is not None), None)
    if size is None:
        raise ValueError(
            f"{owner}: {name} is a {cov.label} of unknown size, expected an integer; pass "
            f"it, as in {summands[0].label}(..., size=3)."
        )
    return size


def join_last(blocks):
    """Concatenate along the last axis, after broadcasting leading dimensions where they differ."""
    patterns = {block.type.broadcastable[:-1] for block in blocks}
    if len(patterns) > 1:
        depth = max(block.type.ndim for block in blocks)
        blocks = [pt.atleast_Nd(block, n=depth) for block in blocks]
        lead = [_common_length(blocks, axis) for axis in range(depth - 1)]
        blocks = [pt.broadcast_to(block, (*lead, block.shape[-1])) for block in blocks]
    return assemble(blocks)


def _common_length(blocks, axis):
    varying = [block for block in blocks if not block.type.broadcastable[axis]]
    return varying[0].shape[axis] if varying else 1
