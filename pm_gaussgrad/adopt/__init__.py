"""Existing models, evaluated here: variables integrated out, or covariances recognised."""
