"""Fisher information of a structure by a kernel of its own, in one Op."""

from pm_gaussgrad.ops.inv_quad_logdet import StructureOp


class InformationByKernel(StructureOp):
    """``(tangents (p, ...), *parameters) -> 1/2 tr(Sigma^-1 dS_a Sigma^-1 dS_b) (p, p)``.

    Of structures with one parameter that has a gradient, the first, or with tangents of several
    side by side, (p, t), and a kernel ``information_kernel(tangents, *parameters)``. The Op has no
    gradient.
    """

    __props__ = ("structure",)
    __str__ = StructureOp.__str__

    def __init__(self, structure):
        super().__init__(structure)

    def _declare(self):
        constant = self.structure.constant_parameters
        [dims, *others] = [dims for name, dims in self.parameters if name not in constant]
        dims = ("t",) if others else dims
        inputs = (("tangents", ("directions", *dims)), *self.parameters)
        outputs = (("information", ("directions", "directions")),)
        return self._signature(self.structure.label, inputs, outputs, "tangents", ("information",))

    @property
    def kernel(self):
        return self.structure.information_kernel


def information_by_kernel(cov, tangents):
    """Of directions of the parameters of a structure that have a gradient, (p, ...) -> (p, p)."""
    return InformationByKernel(cov.structure)(tangents, *cov.parameters)
