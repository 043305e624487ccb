"""Structures of sparse graphs: latent fields and random effects."""
