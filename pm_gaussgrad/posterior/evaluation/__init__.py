"""Expressions evaluated many times: interpreted, or compiled where that takes less time."""
