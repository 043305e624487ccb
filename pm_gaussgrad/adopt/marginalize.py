"""``gg.marginalize``: normal variables of a model, integrated out of its normal likelihoods."""

import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.raise_op import CheckAndRaise

from pm_gaussgrad.adopt.covariance import covariance_of
from pm_gaussgrad.adopt.linear.substitute import substitute
from pm_gaussgrad.adopt.recovery import Marginal, Recovery
from pm_gaussgrad.adopt.report import Marginalization, attach_report, notes_on
from pm_gaussgrad.adopt.select import Search
from pm_gaussgrad.adopt.surgery import copy_of, remove, replace_likelihood
from pm_gaussgrad.posterior.likelihood import as_model
from pm_gaussgrad.posterior.recover.attached import attach

OWNER = "gg.marginalize"


def marginalize(model=None, variables=None) -> pm.Model:
    """A model out of which normal variables are integrated, exactly.

    Parameters
    ----------
    model : pymc.Model, optional
        By default the one on the context stack. It is left as it is.
    variables : sequence of str or TensorVariable, optional
        What to integrate out; by default all that can be.

    Returns
    -------
    pymc.Model
    """
    model = as_model(OWNER, model)
    wanted = _as_names(model, variables)
    new = copy_of(model)
    search, found, chosen = _searched(new, wanted)
    if wanted is not None and search.declined:
        reasons = "".join(f"\n    {name}: {why}" for name, why in search.declined.items())
        raise ValueError(
            f"{OWNER}: `variables` holds what cannot be integrated out, expected normal variables "
            f"that enter one normal likelihood linearly; leave out{reasons}"
        )
    deterministics = _of_variables(new, search, found)
    dims = dict(new.named_vars_to_dims)
    for x in [*(x for f in found for x in f.variables), *(new[name] for name in deterministics)]:
        remove(new, x)
    marginals = [
        _replaced(new, f, c, search.known.read if c.constants else {})
        for f, c in zip(found, chosen, strict=True)
    ]
    attach_report(new, _report(search, chosen, marginals, deterministics))
    attach(new, Recovery(tuple(marginals), deterministics, dims))
    return new


def _as_names(model, variables):
    """Names of free variables of a model, or None for all."""
    if variables is None:
        return None
    if isinstance(variables, str | Variable):
        variables = [variables]
    names = {x if isinstance(x, str) else x.name for x in variables}
    free = {x.name for x in model.free_RVs}
    if unknown := sorted(names - free, key=str):
        raise ValueError(
            f"{OWNER}: `variables` holds {unknown[0]!r}, expected names of free variables of the "
            f"model, {sorted(free)}."
        )
    return names


def _searched(model, wanted):
    """What is found, with its covariances; data are constants only where these need it."""
    search = Search(model, wanted, read_data=True)
    found = search.result()
    chosen = [covariance_of(x) for x in found]
    if search.known.read and not any(x.constants for x in chosen):
        symbolic = Search(model, wanted, read_data=False)
        again = symbolic.result()
        if symbolic.declined == search.declined:
            return symbolic, again, [covariance_of(x) for x in again]
        chosen = [x.with_constants() for x in chosen]
    return search, found, chosen


def _of_variables(model, search, found):
    """Deterministics that depend on what is integrated out, as expressions of leaves."""
    variables = {x: expression for f in found for x, expression in f.variables.items()}
    own = [x for x in model.deterministics if not variables.keys().isdisjoint(search.drawn([x]))]
    return {x.name: y for x, y in zip(own, substitute(own, variables), strict=True)}


def _replaced(model, found, chosen, read):
    """Put the likelihood into the model, and say what it was."""
    offset = found.affine.offset
    mean = pt.zeros(found.mean.type.shape) if offset is None else offset
    mean = _checked(mean, found.rv.name, read)
    replace_likelihood(model, found.rv, mean, chosen.cov)
    variables = {x.name: expression for x, expression in found.variables.items()}
    return Marginal(found.rv.name, found.mean, chosen, tuple(found.bases), variables)


def _checked(mean, name, read):
    """The mean, after checking that data are still what the covariance was made of."""
    for data, value in read.items():
        error = CheckAndRaise(
            ValueError,
            f"{OWNER}: {data.name!r} is not what it was when the model was marginalised; the "
            f"covariance of {name!r} was made of it. Set the data of the original model and "
            "marginalise that again; for predictions recover the variables (gg.recover), and "
            "use the original model.",
        )
        size, entries = value.size, data.flatten()
        seen = pt.minimum(size, entries.shape[0])
        same = pt.eq(entries[:seen], pt.constant(value.ravel())[:seen]).all()
        mean = error(mean, pt.eq(entries.shape[0], size) & same)
    return mean


def _report(search, chosen, marginals, deterministics):
    integrated = {name: how for c in chosen for name, how in c.how.items()}
    plans = {m.name: m.chosen.cov.plan() for m in marginals}
    notes = [note for m in marginals for note in notes_on(m.name, plans[m.name], m.n)]
    constant = any(c.constants for c in chosen)
    return Marginalization(
        integrated=integrated,
        declined=dict(search.declined),
        not_normal=tuple(search.not_normal),
        plans=plans,
        recovered=tuple(deterministics),
        constants=tuple(x.name for x in search.known.read) if constant else (),
        notes=tuple(notes),
    )
