"""After sampling: from a fitted model and its draws, in ArviZ's formats."""
