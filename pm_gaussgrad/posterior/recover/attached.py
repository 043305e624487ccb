"""How a model that was made of another one gets back the variables that it lacks."""

_ATTRIBUTE = "_pm_gaussgrad_recovery"


def attach(model, recovery) -> None:
    """Keep with a model what recovers variables: ``recovery(idata, model, **options)``."""
    setattr(model, _ATTRIBUTE, recovery)


def attached(model):
    """What recovers the variables that a model lacks; None of a model as it was written."""
    return getattr(model, _ATTRIBUTE, None)
