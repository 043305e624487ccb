"""Which variables of a model can be integrated out, and the likelihood that each enters.

What stands in the way of one variable is found one after the other, until nothing does: a variable
that stays may be what another was multiplied by.
"""

from dataclasses import dataclass, field

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.multivariate import MvNormal as PyMCMvNormal
from pymc.distributions.multivariate import ZeroSumNormalRV
from pytensor.tensor.random.basic import NormalRV

from pm_gaussgrad.adopt.marginalize.linear import elementwise, rules  # noqa: F401 - what is linear
from pm_gaussgrad.adopt.marginalize.linear.expand import Expansion
from pm_gaussgrad.adopt.marginalize.linear.known import Known
from pm_gaussgrad.adopt.marginalize.linear.pieces import Affine, NonLinearError, TooLargeError
from pm_gaussgrad.adopt.marginalize.linear.substitute import substitute
from pm_gaussgrad.adopt.marginalize.priors import NotNormalError, as_normal, drawn_first
from pm_gaussgrad.distributions.normal import MvNormalRV

TOO_LARGE = "the matrix by which it enters has no structure, and is too large to be formed"


@dataclass
class Found:
    """One likelihood, and what can be integrated out of it.

    Attributes
    ----------
    rv : TensorVariable, shape (n)
        Observed.
    mean : TensorVariable, shape (n)
        Of what stays and of the leaves of bases.
    affine : Affine
        The same as offset and pieces.
    variables : dict of TensorVariable to TensorVariable
        What is integrated out, as expressions of leaves.
    bases : list of Base
    known : Known
    """

    rv: pt.TensorVariable
    mean: pt.TensorVariable
    affine: Affine
    variables: dict
    bases: list
    known: Known


@dataclass
class Search:
    """What of a model is still taken to be integrated out, and why other variables are not.

    Parameters
    ----------
    model : pymc.Model
    wanted : set of str, or None
        By default every variable.
    read_data : bool
        Whether values of ``pm.Data`` may be taken for constants.

    Attributes
    ----------
    declined : dict of str to str
        Normal variables that stay, and why.
    not_normal : list of str
        Variables with other priors.
    """

    model: pm.Model
    wanted: set | None
    read_data: bool
    declined: dict = field(default_factory=dict)
    not_normal: list = field(default_factory=list)

    def __post_init__(self):
        self.known = Known(self.model.data_vars, self.read_data)
        self.normal, self._products = {}, {}
        for rv in self.model.free_RVs:
            if self.wanted is not None and rv.name not in self.wanted:
                continue
            found = self._as_normal(rv)
            transform = self.model.rvs_to_transforms[rv]
            if found is None:
                continue
            if transform is not None and not isinstance(rv.owner.op, ZeroSumNormalRV):
                self.declined[rv.name] = f"it has the transform {transform.name!r}"
            else:
                self.normal[rv] = found

    def _as_normal(self, rv):
        try:
            return as_normal(rv, self.known)
        except NotNormalError as error:
            self.not_normal.append(rv.name)
            if self.wanted is not None:
                self.declined[rv.name] = str(error)
            return None

    def result(self) -> list[Found]:
        """What can be integrated out, a likelihood each."""
        while True:
            used = {x for rv in self.model.observed_RVs for x in self._upstream(rv)}
            for rv in [x for x in self.normal if x not in used]:
                self.decline(rv.name, "no likelihood depends on it, but through what stays")
            try:
                found = [x for rv in self.model.observed_RVs if (x := self._of(rv))]
            except NonLinearError as error:
                self._settle(error)
                continue
            if not self._taken_back():
                return found

    def _settle(self, error):
        """Decline what stands in the way: what others depend on may not, once these stay."""
        owners, factors = self._nearest(error.owners), self._nearest(error.factors)
        reason = error.reason
        if factors and not owners & factors:
            few, many = sorted((owners, factors), key=self._entries)
            self._products |= {name: (self.normal[self.model[name]], many) for name in few}
            names = ", ".join(map(repr, sorted(many)))
            owners, reason = few, f"is multiplied by {names}, which is integrated out given it"
        elif factors:
            owners = owners & factors
        for name in owners:
            self.decline(name, reason)

    def _nearest(self, names):
        """Those that no other of them depends on."""
        upstream = {name: {x.name for x in self._upstream(self.model[name])} for name in names}
        return {x for x in names if not any(x in upstream[name] for name in names)}

    def _entries(self, names):
        return sum(int(np.prod(self.known.shape(self.model[name]))) for name in names), min(names)

    def _taken_back(self):
        """Whether something stays for what it is multiplied by, which stays too, and need not."""
        for name, (normal, factors) in list(self._products.items()):
            if factors <= self.declined.keys():
                del self._products[name], self.declined[name]
                self.normal[self.model[name]] = normal
                return True
        return False

    def decline(self, name, reason) -> None:
        """Leave a variable in the model."""
        self.declined[name] = reason
        self.normal.pop(self.model[name])

    def _of(self, rv):
        """What enters one likelihood."""
        own = self._upstream(rv)
        if not own:
            return None
        self._check_users(own, rv)
        reason = _not_gaussian(rv) or self._used_itself(rv)
        if reason:
            raise NonLinearError([x.name for x in own], reason)
        variables, bases = {}, []
        for x in own:
            expression, more, scales = self.normal[x]
            self._check_free(scales, f"the scale of {x.name!r} depends on it")
            variables[x] = substitute([expression], variables)[0]
            bases += more
        mu, *scales = rv.owner.op.dist_params(rv.owner)
        self._check_free(scales, f"the covariance of {rv.name!r} depends on it")
        return self._expanded(rv, substitute([mu], variables)[0], variables, bases)

    def _expanded(self, rv, mean, variables, bases):
        [n] = self.known.shape(rv)
        found = self.known.shape(mean)
        if found not in ((), (1,), (n,)):
            raise ValueError(
                f"gg.marginalize: the mean of {rv.name!r} has shape {found}, expected ({n},), that "
                "of the observations; set data of the same length (pm.set_data)."
            )
        if mean.type.shape != (n,):
            mean = pt.specify_shape(pt.broadcast_to(mean, (n,)), (n,))
        try:
            affine = Expansion(bases, self.known).of(mean)
        except TooLargeError as error:
            raise NonLinearError([error.owner], TOO_LARGE) from None
        if unused := {x.name for x in variables} - affine.owners:
            raise NonLinearError(unused, f"it does not enter {rv.name!r}")
        return Found(rv, mean, affine, variables, bases, self.known)

    def _upstream(self, rv) -> list:
        """What may be integrated out and a variable depends on, causes ahead of effects."""
        found, waiting = set(), [rv]
        while waiting:
            more = {x for x in self.drawn(waiting.pop().owner.inputs) if x in self.normal}
            waiting += more - found
            found |= more
        return [x for x in self.model.free_RVs if x in found]

    def drawn(self, expressions):
        """The model's random variables that expressions depend on directly."""
        found = []
        for x in drawn_first(expressions):
            own = x in self.model.basic_RVs
            found += [x] if own else self.drawn(x.owner.inputs)
        return found

    def _used_itself(self, likelihood):
        """Why the observations have to stay what they are; None if they need not."""
        users = [(rv.name, rv.owner.inputs) for rv in self.model.basic_RVs]
        users += [(x.name, [x]) for x in [*self.model.deterministics, *self.model.potentials]]
        for name, inputs in users:
            if likelihood in self.drawn(inputs):
                return f"the observations of {likelihood.name!r} are used by {name!r}"
        return None

    def _check_free(self, expressions, reason):
        owners = {x.name for x in self.drawn(expressions) if x in self.normal}
        if owners:
            raise NonLinearError(owners, reason)

    def _check_users(self, own, likelihood):
        """Raise where others than the likelihood depend on what enters it."""
        for rv in self.model.basic_RVs:
            used = [x.name for x in self.drawn(rv.owner.inputs) if x in own]
            if not used or rv is likelihood or rv in own:
                continue
            if rv in self.model.observed_RVs or rv in self.normal:
                reason = f"it is shared by {likelihood.name!r} and {rv.name!r}"
            else:
                reason = f"the prior of {rv.name!r}, which stays, depends on it"
            raise NonLinearError(used, reason)
        for potential in self.model.potentials:
            used = [x.name for x in self.drawn([potential]) if x in own]
            if used:
                raise NonLinearError(used, f"the potential {potential.name!r} depends on it")


def _not_gaussian(rv):
    """Why a likelihood cannot be that of a structure; None if it can."""
    kinds = NormalRV | PyMCMvNormal.rv_type | MvNormalRV
    op = rv.owner.op
    if not isinstance(op, kinds):
        name = getattr(op, "_print_name", (type(op).__name__,))[0]
        return f"the likelihood {rv.name!r} is {name}, not normal"
    if rv.type.ndim != 1:
        return f"the likelihood {rv.name!r} has {rv.type.ndim} dimensions, one is expected"
    return None
