"""Whitened residuals and their pictures."""
