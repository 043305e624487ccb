"""Benchmarks of pm_gaussgrad as ratios to what a user would pick instead."""
