"""Random models in which up to four normal variables enter a likelihood, most of them linearly."""

from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.tensor as pt


@dataclass
class Recipe:
    """Draws of what a model consists of.

    Attributes
    ----------
    rng : numpy.random.Generator
    n : int
        The number of observations.
    """

    rng: np.random.Generator
    n: int

    def model(self):
        """A model with an observed variable ``y``."""
        rng = self.rng
        with pm.Model() as model:
            scales = [pm.HalfNormal(f"scale_{i}", np.float64(1.5)) for i in range(2)]
            total, variables = pt.zeros(self.n), []
            for i in range(rng.integers(1, 5)):
                variables.append(self.variable(f"v{i}", variables, scales))
                total = total + self.seen(variables[-1], scales)
            if rng.uniform() < 0.3:
                total = pm.Deterministic("mean", total)
            if rng.uniform() < 0.15:
                total = self.bent(total, variables)
            self.likelihood(total, scales)
        return model

    def pick(self, *choices):
        """One of some functions, called."""
        return choices[self.rng.integers(len(choices))]()

    def variable(self, name, variables, scales):
        """A normal variable, whose mean may be of those before it."""
        rng = self.rng
        shape = self.pick(lambda: (), lambda: (int(rng.integers(1, 7)),), self.rows)
        mean = rng.normal(size=shape)
        if variables and rng.uniform() < 0.5:
            parent = variables[rng.integers(len(variables))]
            mean = mean + self.fitted(parent, shape) * rng.normal()
        sigma = self.pick(
            lambda: np.float64(rng.uniform(0.3, 2)),
            lambda: scales[rng.integers(2)],
            lambda: scales[rng.integers(2)] * rng.uniform(0.5, 2, size=shape),
        )
        if rng.uniform() < 0.2:
            z = pm.Normal(name, np.zeros(shape), np.float64(1))
            return mean + sigma * z
        if len(shape) == 2 and rng.uniform() < 0.6:
            root = np.tril(rng.normal(size=(shape[1], shape[1]))) + 2 * np.eye(shape[1])
            return pm.MvNormal(name, mean, chol=scales[0] * root)
        if len(shape) == 1 and shape[0] > 2 and rng.uniform() < 0.2:
            start = pm.Normal.dist(0, np.float64(2))
            return pm.GaussianRandomWalk(name, 0, scales[1], init_dist=start, steps=shape[0] - 1)
        return pm.Normal(name, mean, sigma, shape=shape)

    def rows(self):
        return int(self.rng.integers(2, 5)), int(self.rng.integers(1, 3))

    def fitted(self, x, shape):
        """Entries of an expression in another shape."""
        if x.ndim == 0 or not shape:
            return x.sum() if x.ndim else x
        size = int(np.prod(x.shape.eval()))
        return x.ravel()[self.rng.integers(size, size=shape)]

    def seen(self, x, scales):
        """What observations see of a variable: shape (n)."""
        rng, n = self.rng, self.n
        size = int(np.prod(x.shape.eval()))
        regressor = rng.normal(size=n)
        index = rng.integers(size, size=n)
        if x.ndim == 2 and rng.uniform() < 0.5:
            group, k = rng.integers(x.shape.eval()[0], size=n), int(x.shape.eval()[1])
            seen = x[group, 0] + (x[group, k - 1] * regressor if k > 1 else 0)
        else:
            seen = self.pick(
                lambda: x.ravel()[index],
                lambda: rng.normal(size=(n, size)) @ x.ravel(),
                lambda: (rng.normal(size=(n, size)) * x.ravel()).sum(axis=1),
                lambda: x.ravel()[index] * regressor + x.ravel()[0],
                lambda: pt.concatenate([x.ravel(), -x.ravel()])[2 * index],
                lambda: pt.cumsum(x.ravel())[index],
                lambda: pt.repeat(x.reshape((1, size)), n, axis=0).mean(axis=1) - x.ravel()[index],
                lambda: pt.set_subtensor(pt.zeros(n + size)[:size], x.ravel())[index],
            )
        return seen * self.pick(
            lambda: 1, lambda: rng.normal(), lambda: scales[rng.integers(2)] / 2, lambda: regressor
        )

    def bent(self, total, variables):
        """Something that is not linear in one of the variables, or in two together."""
        x = variables[self.rng.integers(len(variables))].ravel()[0]
        y = variables[self.rng.integers(len(variables))].ravel()[-1]
        return total + self.pick(lambda: pt.tanh(x), lambda: x * y, lambda: pt.switch(x > 0, y, 0))

    def likelihood(self, total, scales):
        rng = self.rng
        data = rng.normal(size=self.n)
        sigma = self.pick(lambda: scales[1], lambda: rng.uniform(0.5, 1.5, size=self.n))
        if rng.uniform() < 0.2:
            cov = np.exp(-np.abs(np.subtract.outer(np.arange(self.n), np.arange(self.n))))
            pm.MvNormal("y", total, scales[0] ** 2 * cov, observed=data)
        else:
            pm.Normal("y", total, sigma, observed=data)


def random_linear_model(seed):
    """The model of a seed."""
    rng = np.random.default_rng([seed, 15])
    return Recipe(rng, int(rng.integers(3, 11))).model()
