"""Existing models: what is Gaussian in them, integrated out."""
