"""Observations left out: conditional densities, and what ArviZ does with them."""
