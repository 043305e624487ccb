"""``gg.accelerate``: the multivariate normal variables of a model, evaluated by this package."""

import pymc as pm

from pm_gaussgrad.adopt.accelerate.report import Acceleration
from pm_gaussgrad.adopt.accelerate.variables import (
    DeclinedError,
    is_replaced,
    reason_to_stay,
    replacement,
)
from pm_gaussgrad.adopt.kept import keep
from pm_gaussgrad.adopt.surgery import copy_of, keep_order
from pm_gaussgrad.cov import CAR
from pm_gaussgrad.posterior.likelihood import as_model

OWNER = "gg.accelerate"


def accelerate(model=None, *, normalize=False) -> pm.Model:
    r"""The same model, with its multivariate normal variables evaluated by this package.

    Likelihoods and priors ``pm.MvNormal``, ``pm.MvStudentT``, ``pm.KroneckerNormal`` and ``pm.CAR``
    and those that ``pm.gp`` makes become ``gg.MvNormal`` and ``gg.MvStudentT``. The structure of a
    covariance is what its graph proves: diagonal, triangular factors, inverses, low rank and
    diagonal, Kronecker products, blocks, scales, multiples and sums of these, and constants.
    Anything else is a matrix, with the analytic gradient of one.

    Parameters
    ----------
    model : pymc.Model, optional
        By default the one on the context stack. It is left as it is.
    normalize : bool, default False
        Whether to add the constant that the log density of ``pm.CAR`` lacks, :math:`\frac12
        (\log|D| - n \log 2\pi)`; else the log density is the same as before.

    Returns
    -------
    pymc.Model
        With the same names, dimensions, transforms, data and posterior; to be sampled and used
        after sampling, by :func:`gg.loo`, :func:`gg.predict` and the others.
        :func:`gg.acceleration_report` of it says what became what.

    Raises
    ------
    TypeError
        If ``model`` is no model.

    See Also
    --------
    accelerated : the same of log densities alone, where a model is built by others.
    """
    model = as_model(OWNER, model)
    new, declined, covariances = copy_of(model), {}, {}
    keep_order(new, model)
    for rv in new.basic_RVs:
        found = _replaced(rv, new.basic_RVs, normalize)
        if isinstance(found, str):
            declined[rv.name] = found
        elif found is not None:
            covariances[rv.name] = found
    notes = _notes(covariances, normalize)
    keep(new, Acceleration(model, new, covariances, declined, notes))
    return new


def _replaced(rv, named, normalize):
    """The covariance that a variable was given, or why it stays; None of all that are others."""
    if not is_replaced(rv.owner.op):
        return reason_to_stay(rv.owner, named)
    try:
        found = replacement(rv.owner, normalize)
    except DeclinedError as error:
        return str(error)
    at = len(found.node.outputs) - 1
    made = found.node.outputs[at].type
    if (made.dtype, made.ndim) != (rv.type.dtype, rv.type.ndim):
        return f"it would be of type {made}, where it is {rv.type}"
    # What depends on the variable goes on to do so.
    found.node.outputs[at] = rv
    rv.owner, rv.index = found.node, at
    rv.tag.covariance = found.covariance
    return found.covariance


def _notes(covariances, normalize):
    lacking = [name for name in covariances if isinstance(covariances[name], CAR)]
    how = "is added" if normalize else "is left out, as before (normalize=True adds it)"
    return tuple(
        f"the constant that the log density of pm.CAR lacks {how}: {name!r}" for name in lacking
    )
