"""``gg.marginalize``: normal variables of a model, integrated out of its normal likelihoods."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.raise_op import CheckAndRaise

from pm_gaussgrad.adopt.kept import keep
from pm_gaussgrad.adopt.marginalize.covariance import covariance_of
from pm_gaussgrad.adopt.marginalize.linear.pieces import TooLargeError
from pm_gaussgrad.adopt.marginalize.linear.substitute import substitute
from pm_gaussgrad.adopt.marginalize.recovery import Marginal, Recovery
from pm_gaussgrad.adopt.marginalize.report import Marginalization, notes_on
from pm_gaussgrad.adopt.marginalize.select import TOO_LARGE, Search
from pm_gaussgrad.adopt.surgery import copy_of, remove, replace_likelihood
from pm_gaussgrad.posterior.likelihood import as_model
from pm_gaussgrad.posterior.recover.attached import attach

OWNER = "gg.marginalize"


def marginalize(model=None, variables=None) -> pm.Model:
    r"""The same model with normal variables integrated out, exactly, and recovered afterwards.

    Variables with a normal or flat prior that enter one normal likelihood linearly are taken out of
    the model, and the likelihood becomes a :class:`gg.MvNormal` with the mean of what stays and the
    sum of a covariance for each of them: effects of groups, factors, a random walk, the structure
    that a latent vector has. There is less to sample, no funnel, and no choice of centring.
    :func:`gg.recover` draws the variables, from their distribution given data and parameters.

    Parameters
    ----------
    model : pymc.Model, optional
        By default the one on the context stack. It is left as it is.
    variables : sequence of str or TensorVariable, optional
        What to integrate out; by default all that can be.

    Returns
    -------
    pymc.Model
        A new one, with the names, dimensions, data, transforms and initial values of what stays.
        :func:`gg.marginalization_report` says what was integrated out, as what, what was not and
        why, and how each likelihood is evaluated. If nothing can be, an equal model.

    Raises
    ------
    TypeError
        If ``model`` is no model.
    ValueError
        If ``variables`` holds others than free variables, or one that cannot be integrated out,
        with the reason; if the data do not identify coefficients with a flat prior.

    Notes
    -----
    That the likelihood is linear in a variable is proved from the graph of its mean. Known as
    linear are sums, differences, multiples, products with matrices, indexing, slices, stacking,
    reshaping, repeating, sums and cumulative sums along axes, solutions of linear systems and
    ``einsum``, with deterministics in between; the factors may be parameters. Priors are
    ``pm.Normal``, ``pm.MvNormal``, ``gg.MvNormal``, ``pm.GaussianRandomWalk``,
    ``pm.ZeroSumNormal``, and ``pm.Flat``; a mean may be another of these. Likelihoods are
    ``pm.Normal``, ``pm.MvNormal`` and ``gg.MvNormal`` of one dimension. Of a product of two normal
    variables the smaller one stays.

    Structures are chosen by cost: groups of more than a few levels are ``gg.cov.Effects`` with a
    sparse factor, other maps of k < n columns a factor, :math:`n k^2`, and beyond that the matrix
    is formed, :math:`n^3`, which the report notes where n is large.

    Values of ``pm.Data`` that groups and designs are made of are constants of the new model; it
    says so where they are set to others. Marginalise the original model again, or recover, and
    predict with the original model.

    References
    ----------
    Lindley, D. V. and Smith, A. F. M. (1972). Bayes estimates for the linear model. Journal of the
    Royal Statistical Society B 34, 1-41.

    Lai, J., Sheldon, D. and Domke, J. (2024). Hamiltonian Monte Carlo inference of marginalized
    linear mixed-effects models. Advances in Neural Information Processing Systems 37.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> import pm_gaussgrad as gg
    >>> with pm.Model() as model:
    ...     mean, tau = pm.Normal("mean", 0, 5), pm.HalfNormal("tau", 5)
    ...     school = pm.Normal("school", mean, tau, shape=3)
    ...     y = pm.Normal("y", school, [15, 10, 16], observed=[28, 8, -3])
    >>> new = gg.marginalize(model)
    >>> new.free_RVs
    [tau]
    >>> gg.marginalization_report(new).integrated
    {'mean': 'a factor of 1 columns', 'school': 'a variance of single observations'}
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
    keep(new, _report(search, chosen, marginals, deterministics))
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
    found, chosen = _results(search)
    if search.known.read and not any(x.constants for x in chosen):
        symbolic = Search(model, wanted, read_data=False)
        again = _results(symbolic)
        if symbolic.declined == search.declined:
            return symbolic, *again
        chosen = [x.with_constants() for x in chosen]
    return search, found, chosen


def _results(search):
    """What is found, and its covariances."""
    while True:
        found = search.result()
        try:
            return found, [covariance_of(x) for x in found]
        except TooLargeError as error:
            search.decline(error.owner, TOO_LARGE)


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
        # By positions that there are, so that lengths are known when it is compiled.
        entries = pt.concatenate([data.flatten(), pt.zeros(1, data.dtype)])
        places = pt.minimum(np.arange(value.size), data.size)
        same = pt.eq(entries[places], value.ravel()).all() & pt.eq(data.size, value.size)
        mean = error(pt.switch(same, mean, np.nan), same)
    return mean


def _report(search, chosen, marginals, deterministics):
    how = {name: text for c in chosen for name, text in c.how.items()}
    integrated = {name: how[name] for m in marginals for name in m.variables}
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
