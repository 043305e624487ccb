"""Models without some of their variables."""

import warnings

import pymc as pm
from pymc.model.fgraph import clone_model
from pytensor.graph.basic import Constant, Variable

from pm_gaussgrad.distributions.normal import MvNormal


def copy_of(model) -> pm.Model:
    """A copy with variables of its own, initial values included."""
    without = object.__new__(type(model))
    vars(without).update(vars(model))
    without.rvs_to_initial_values = dict.fromkeys(model.rvs_to_initial_values)
    with warnings.catch_warnings():
        # Whoever has the Gaussian process objects of a model uses them with that model.
        warnings.filterwarnings("ignore", "Detected variables likely")
        new = clone_model(without)
    for rv, initial in model.rvs_to_initial_values.items():
        new.set_initval(new[rv.name], _initial(initial))
    new.check_bounds = model.check_bounds
    return new


def keep_order(model, original) -> None:
    """Bring the variables of a copy into the order of the original."""
    for own, theirs in (
        (model.free_RVs, original.free_RVs),
        (model.observed_RVs, original.observed_RVs),
        (model.deterministics, original.deterministics),
        (model.potentials, original.potentials),
    ):
        _set(own, [model[x.name] for x in theirs])


def _initial(value):
    """An initial value; one that depends on other variables of the old model is left out."""
    symbolic = isinstance(value, Variable) and not isinstance(value, Constant)
    return None if symbolic else value


def remove(model, variable) -> None:
    """Take a variable out of a model; others may still depend on it."""
    name = variable.name
    for group in (model.free_RVs, model.observed_RVs, model.deterministics):
        _set(group, [x for x in group if x is not variable])
    value = model.rvs_to_values.pop(variable, None)
    if value is not None:
        model.values_to_rvs.pop(value, None)
        model.rvs_to_transforms.pop(variable, None)
        model.rvs_to_initial_values.pop(variable, None)
    model.named_vars.pop(name)
    model.named_vars_to_dims.pop(name, None)
    vars(model).pop(name, None)


def replace_likelihood(model, rv, mean, cov) -> None:
    """Put a structured normal likelihood in the place of one."""
    value, dims = model.rvs_to_values[rv], model.named_vars_to_dims.get(rv.name)
    position = model.observed_RVs.index(rv)
    remove(model, rv)
    with model:
        new = MvNormal(rv.name, mean, cov, observed=value, dims=dims)
    others = [x for x in model.observed_RVs if x is not new]
    _set(model.observed_RVs, [*others[:position], new, *others[position:]])


def _set(group, variables):
    group.clear()
    group.extend(variables)
