"""New and missing entries at each draw."""
