"""Structures of series in time."""
