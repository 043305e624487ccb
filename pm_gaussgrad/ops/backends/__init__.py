"""How the Ops reach numba and JAX; nothing here is imported before a graph is compiled."""
