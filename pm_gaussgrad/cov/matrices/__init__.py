"""Structures of matrices: dense, factored, diagonal, low rank."""
