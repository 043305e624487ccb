"""Gaussian processes in time with a state of finite size: a filter and its reverse sweep."""
