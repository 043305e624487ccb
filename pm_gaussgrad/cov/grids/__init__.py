"""Structures of grids: Kronecker products and regular series."""
