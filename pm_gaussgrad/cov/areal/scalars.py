"""Users' scalar parameters of areal models."""

from pm_gaussgrad.cov.protocol.base import as_parameter
from pm_gaussgrad.cov.protocol.constants import check_finite, check_within


def as_scalar(owner: str, name: str, value):
    """A scalar or a batch of scalars, (...); constants are finite."""
    value = as_parameter(owner, name, value, 0)
    check_finite(owner, name, value)
    return value


def check_scale(owner: str, name: str, value) -> None:
    """Raise a ValueError where a constant precision or standard deviation is negative."""
    check_within(owner, name, value, 0, remedy="; no precision or standard deviation is negative")


def check_share(owner: str, name: str, value) -> None:
    """Raise a ValueError where a constant is not in 0 to 1."""
    check_within(owner, name, value, 0, 1, remedy=", the share of what is spatial")
