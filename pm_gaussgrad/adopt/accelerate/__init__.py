"""Multivariate normal variables of existing models, evaluated by structures proved in the graph."""
