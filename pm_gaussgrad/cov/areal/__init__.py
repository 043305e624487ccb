"""Structures of areas of a map: autoregressions on the graph of neighbours."""
