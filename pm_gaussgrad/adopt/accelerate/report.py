"""What became of the variables of an accelerated model, and what they cost."""

import time
from dataclasses import dataclass, field

import numpy as np
import pymc as pm

from pm_gaussgrad.adopt.kept import kept
from pm_gaussgrad.cov.protocol.base import Covariance
from pm_gaussgrad.cov.protocol.plan import Plan

_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class Acceleration:
    """What :func:`gg.accelerate` did to a model; ``str`` of it is for people.

    Attributes
    ----------
    original, model : pymc.Model
    covariances : dict of str to Covariance
        What is known of the covariances of the variables that are evaluated here.
    declined : dict of str to str
        Variables that stay, and why.
    notes : tuple of str
        What else there is to know.
    """

    original: pm.Model = field(repr=False)
    model: pm.Model = field(repr=False)
    covariances: dict[str, Covariance]
    declined: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def plans(self) -> dict[str, Plan]:
        """How each of these variables is evaluated, at what cost."""
        return {name: cov.plan() for name, cov in self.covariances.items()}

    def measure(self) -> dict[str, float]:
        """Seconds of a log density with its gradient, at the initial point, after compilation.

        Returns
        -------
        dict
            ``before`` and ``after``, medians of as many as there are in a second, and ``ratio``,
            how many times as fast it is now.
        """
        before, after = (_seconds(model) for model in (self.original, self.model))
        return {"before": before, "after": after, "ratio": before / after}

    def __str__(self):
        lines = [] if self.covariances else ["Nothing is evaluated differently."]
        for name, plan in self.plans.items():
            lines += [f"{name!r} is now a", *(f"    {line}" for line in str(plan).splitlines())]
        lines += [f"{name!r} stays: {why}" for name, why in self.declined.items()]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    __repr__ = __str__


def _seconds(model) -> float:
    function = model.logp_dlogp_function(ravel_inputs=True)
    function.set_extra_values({})
    point = model.initial_point()
    names = [x.name for x in function._grad_vars]
    values = np.concatenate([np.ravel(point[name]) for name in names])
    function(values)
    taken, started = [], time.perf_counter()
    while time.perf_counter() - started < _SECONDS:
        begin = time.perf_counter()
        function(values)
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def acceleration_report(model=None) -> Acceleration:
    """What became of the variables of a model that :func:`gg.accelerate` returned.

    Parameters
    ----------
    model : pymc.Model, optional
        By default the one on the context stack.

    Returns
    -------
    Acceleration
        ``str`` of it is for people: which variable became what, at what cost, and why others stay.
        ``measure()`` times the log density and gradient of both models.

    Raises
    ------
    TypeError
        If ``model`` is no model.
    ValueError
        If :func:`gg.accelerate` did not make it.
    """
    return kept("gg.acceleration_report", model, Acceleration, "gg.accelerate")
