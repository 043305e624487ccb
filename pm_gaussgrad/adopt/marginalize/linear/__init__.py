"""Which variables an expression is linear in, and by which maps: proved from its graph."""
