"""Fisher information, and what follows from it at the mode."""
