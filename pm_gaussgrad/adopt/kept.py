"""Reports that stay with the models that they are about."""

from pm_gaussgrad.posterior.likelihood import as_model


def keep(model, report) -> None:
    """Keep a report with a model, one of each kind."""
    setattr(model, _attribute(type(report)), report)


def kept(owner, model, kind, maker):
    """The report of a kind about a model, or the one on the context stack.

    Raises a ValueError where ``maker`` did not make the model.
    """
    model = as_model(owner, model)
    found = getattr(model, _attribute(kind), None)
    if found is None:
        raise ValueError(
            f"{owner}: the model has no report, expected the one that {maker} returned; a copy of "
            "it has none."
        )
    return found


def _attribute(kind) -> str:
    return f"_pm_gaussgrad_{kind.__name__.lower()}"
