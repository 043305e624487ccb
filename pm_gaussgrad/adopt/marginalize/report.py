"""What was integrated out of a model, and why other variables were not."""

from dataclasses import dataclass

from pm_gaussgrad.adopt.kept import kept
from pm_gaussgrad.cov.protocol.plan import Plan

# With more observations a dense matrix is likely to cost more than the variables did.
_MANY = 200


@dataclass(frozen=True, eq=False)
class Marginalization:
    """What :func:`gg.marginalize` did to a model; ``str`` of it is for people.

    Attributes
    ----------
    integrated : dict of str to str
        The variables that were integrated out, and what they became in the covariance.
    declined : dict of str to str
        Normal variables that stay, and why.
    not_normal : tuple of str
        Variables that stay because they have other priors.
    plans : dict of str to Plan
        How each changed likelihood is evaluated, at what cost.
    recovered : tuple of str
        Deterministics that left with them.
    constants : tuple of str
        The ``pm.Data`` of which the present values are part of the model.
    notes : tuple of str
        When it would not pay.
    """

    integrated: dict
    declined: dict
    not_normal: tuple
    plans: dict[str, Plan]
    recovered: tuple = ()
    constants: tuple = ()
    notes: tuple = ()

    def __str__(self):
        lines = [] if self.integrated else ["Nothing was integrated out."]
        lines += _listed("Integrated out:", self.integrated)
        lines += _listed("Not integrated out:", self.declined)
        if self.not_normal:
            lines.append("Not normal: " + ", ".join(self.not_normal))
        for name, plan in self.plans.items():
            lines += [f"The likelihood {name!r} is now a", *_indented(str(plan))]
        if self.recovered:
            lines.append("Recovered with them: " + ", ".join(self.recovered))
        if self.constants:
            lines.append("Constant from now on: " + ", ".join(self.constants))
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    __repr__ = __str__


def _listed(title, entries):
    width = max(map(len, entries), default=0)
    return [title, *(f"    {k:{width}}  {v}" for k, v in entries.items())] if entries else []


def _indented(text):
    return [f"    {line}" for line in text.splitlines()]


def notes_on(name, plan, n) -> list:
    """When a likelihood would be better left as it was."""
    if "Dense" not in plan.label or n <= _MANY:
        return []
    return [
        f"{name!r} is evaluated by a dense matrix of {n} rows, of the order of {n}^3 operations; "
        "that pays where the variables are hard to sample. Name others by variables=."
    ]


def marginalization_report(model=None) -> Marginalization:
    """What was integrated out of a model by :func:`gg.marginalize`, what was not, and why.

    Parameters
    ----------
    model : pymc.Model, optional
        That :func:`gg.marginalize` returned; by default the one on the context stack.

    Returns
    -------
    Marginalization
        ``str`` of it is for people. Its attributes are ``integrated`` and ``declined``, dicts of
        names to what became of them and to the reason; ``plans``, how each likelihood is
        evaluated; ``recovered``, the deterministics that left with the variables; ``constants``,
        the ``pm.Data`` whose values are part of the model; ``notes``, when it would not pay.

    Raises
    ------
    TypeError
        If ``model`` is no model.
    ValueError
        If :func:`gg.marginalize` did not make it.

    Examples
    --------
    See :func:`gg.marginalize`.
    """
    return kept("gg.marginalization_report", model, Marginalization, "gg.marginalize")
