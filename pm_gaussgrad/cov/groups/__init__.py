"""Structures of groups of observations."""
