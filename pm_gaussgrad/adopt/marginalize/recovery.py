r"""Variables that were integrated out, at each draw of a posterior of the model without them.

With bases :math:`u_k \sim N(0, M_k)`, mean m(u), affine in them, and noise e of the likelihood,
draws u* and e* of these and :math:`\alpha = \Sigma^{-1} (y - m(u^*) - e^*)`,

.. math:: u_k = u_k^* + M_k A_k^\top \alpha, \qquad A_k = \partial m / \partial u_k,

are one draw of all of them together given y. The products with :math:`A_k^\top` are a pullback of
the mean as it was written, and what else depended on the variables is what it was written as, too.

Sources: Chiles and Delfiner (2012), Geostatistics, 2nd ed., section 7.3.1 (draws, after Matheron).
"""

from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
import xarray as xr

from pm_gaussgrad.adopt.marginalize.covariance import Chosen
from pm_gaussgrad.adopt.marginalize.linear.substitute import substitute
from pm_gaussgrad.cov.protocol.latent import Latent
from pm_gaussgrad.posterior.draws import (
    add_to_group,
    labelled,
    over_draws,
    posterior_of,
    white_noise,
)
from pm_gaussgrad.posterior.likelihood import gaussian_likelihood
from pm_gaussgrad.posterior.predict.component import entries_of
from pm_gaussgrad.posterior.recover.conditional import Solver

OWNER = "gg.recover"


@dataclass(frozen=True, eq=False)
class Marginal:
    """One likelihood out of which variables were integrated.

    Attributes
    ----------
    name : str
    mean : TensorVariable, shape (n)
        As it was, of what stays and of the leaves of bases.
    chosen : Chosen
        The covariance as it is now, and was.
    bases : tuple of Base
    variables : dict of str to TensorVariable
        What was integrated out, of leaves and what stays.
    """

    name: str
    mean: pt.TensorVariable
    chosen: Chosen
    bases: tuple
    variables: dict

    @property
    def n(self):
        """The number of observations."""
        return self.mean.type.shape[0]


@dataclass(frozen=True, eq=False)
class Recovery:
    """What recovers the variables of a model that was marginalised.

    Attributes
    ----------
    marginals : tuple of Marginal
    deterministics : dict of str to TensorVariable
        Of leaves of bases and what stays.
    dims : dict of str to tuple of str
        Names of dimensions, for variables and deterministics that have them.
    """

    marginals: tuple[Marginal, ...]
    deterministics: dict
    dims: dict

    def __call__(
        self,
        idata,
        model,
        moments=False,
        extend_inferencedata=True,
        random_seed=None,
        progressbar=True,
        compile_kwargs=None,
    ):
        """Add draws, and with ``moments`` conditional means of the variables, to a posterior."""
        posterior = posterior_of(OWNER, idata)
        outputs, noise = self.expressions(model, moments)
        arrays = over_draws(
            OWNER,
            model,
            idata,
            list(outputs.values()),
            noise=noise,
            random_seed=random_seed,
            progressbar=progressbar,
            compile_kwargs=compile_kwargs,
        )
        named = []
        for name, array in zip(outputs, arrays, strict=True):
            of = name if name in self._names() else name.removesuffix("_mean")
            dims = self._dims(of, array.ndim - 2)
            coords = {
                dim: _labels(model, dim, size)
                for dim, size in zip(dims, array.shape[2:], strict=True)
            }
            named.append(labelled(name, array, posterior, dims, coords))
        if not extend_inferencedata:
            return xr.Dataset({array.name: array for array in named})
        add_to_group(idata, "posterior", *named)
        return idata

    def _names(self):
        return {*self.deterministics, *(name for m in self.marginals for name in m.variables)}

    def _dims(self, name, ndim):
        own = self.dims.get(name, (None,) * ndim)
        return tuple(dim or f"{name}_dim_{i}" for i, dim in enumerate(own))

    def expressions(self, model, moments):
        """Expressions by name, and the noise that they are a function of."""
        given, means, noise = {}, {}, []
        for marginal in self.marginals:
            found = _Conditional(marginal, model)
            given |= found.leaves(noise)
            if moments:
                means |= found.leaves(None)
        variables = {k: x for m in self.marginals for k, x in m.variables.items()}
        expressions = {**variables, **self.deterministics}
        drawn = substitute(list(expressions.values()), given)
        outputs = dict(zip(expressions, drawn, strict=True))
        if moments:
            of_variables = substitute(list(variables.values()), means)
            names = (f"{name}_mean" for name in variables)
            outputs |= dict(zip(names, of_variables, strict=True))
        return outputs, noise


class _Conditional:
    """Bases given the data of one likelihood.

    Parameters
    ----------
    marginal : Marginal
    model : pymc.Model
    """

    def __init__(self, marginal, model):
        self.marginal = marginal
        likelihood = gaussian_likelihood(OWNER, model, marginal.name)
        self.value, self.missing = likelihood.value, likelihood.missing
        chosen = marginal.chosen
        self.entries = entries_of(OWNER, likelihood, None, chosen.proper, None)
        flat = [Latent(None, design, (base.size,)) for base, design in chosen.flat]
        self.solver = Solver(self.entries, flat)

    def leaves(self, noise) -> dict:
        """Each leaf as a draw given the data, to whose noise is appended; as its mean for None."""
        marginal, n = self.marginal, self.marginal.n
        drawn = {base.leaf: _drawn(base, noise) for base in marginal.bases}
        [mean] = substitute([marginal.mean], drawn)
        residual = self.value - mean
        if noise is not None:
            residual = residual - _draw(marginal.chosen.noise, (), n, residual.dtype, noise)
        if self.missing is not None:
            residual = pt.switch(self.missing, 0, residual)
        alpha, coefficients = self.solver.solve(residual)
        pulled = pt.grad(
            None, list(drawn), known_grads={marginal.mean: alpha}, disconnected_inputs="ignore"
        )
        pulled = substitute(pulled, {leaf: pt.zeros(leaf.type.shape) for leaf in drawn})
        found = {
            base.leaf: drawn[base.leaf] + _spread(base, back)
            for base, back in zip(marginal.bases, pulled, strict=True)
        }
        for (base, _), x in zip(marginal.chosen.flat, coefficients, strict=True):
            found[base.leaf] = x.reshape(base.shape)
        return found


def _drawn(base, noise):
    """A draw of a base, or zeros."""
    if noise is None or base.flat:
        return pt.zeros(base.shape, dtype=base.leaf.dtype)
    if base.cov is None:
        return _draw(None, base.shape, 0, base.leaf.dtype, noise)
    return _draw(base.cov, base.shape[:-1], base.shape[-1], base.leaf.dtype, noise)


def _draw(cov, rows, n, dtype, noise):
    if cov is None:
        z = pt.tensor("z", shape=rows, dtype=dtype)
        noise.append(z)
        return z
    z = white_noise(rows, cov.noise_size(n), dtype)
    noise.append(z)
    return cov.draw_semidefinite(z)


def _spread(base, back):
    """M of each row."""
    return back if base.cov is None else base.cov.times(back)


def _labels(model, dim, size):
    labels = model.coords.get(dim)
    return np.arange(size) if labels is None else np.asarray(labels)
