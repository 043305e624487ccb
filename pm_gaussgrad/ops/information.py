"""Fisher information of a structure by a kernel of its own, in one Op."""

from pm_gaussgrad.ops.inv_quad_logdet import StructureOp


class InformationByKernel(StructureOp):
    """``(tangents (p, ...), *parameters) -> 1/2 tr(Sigma^-1 dS_a Sigma^-1 dS_b) (p, p)``.

    Of structures with one parameter that has a gradient, the first, and a kernel
    ``information_kernel(tangents, *parameters)``. The Op has no gradient.
    """

    __props__ = ("structure",)
    __str__ = StructureOp.__str__

    def __init__(self, structure):
        super().__init__(structure)

    def _declare(self):
        [(_, dims), *_] = self.parameters
        inputs = (("tangents", ("p", *dims)), *self.parameters)
        outputs = (("information", ("p", "p")),)
        return self._signature(self.structure.label, inputs, outputs, "tangents", ("information",))

    @property
    def kernel(self):
        return self.structure.information_kernel


def information_by_kernel(cov, tangents):
    """Of directions of the first parameter of a structure, (p, ...) -> (p, p)."""
    return InformationByKernel(cov.structure)(tangents, *cov.parameters)
