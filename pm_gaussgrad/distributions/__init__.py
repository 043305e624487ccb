"""The distributions of PyMC models, and the random variable that they share."""
