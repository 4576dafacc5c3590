# SPDX-License-Identifier: Apache-2.0
"""The search for two settings that give the same data, of a likelihood or of any model."""

from __future__ import annotations

from typing import Any, overload

from pyro_idvae._checks import check_count, check_real, check_seed
from pyro_idvae.diagnostics.witness import of_likelihood, of_model
from pyro_idvae.diagnostics.witness.of_likelihood import Witness
from pyro_idvae.diagnostics.witness.of_model import ModelWitness
from pyro_idvae.distributions import Likelihood
from pyro_idvae.errors import ArgumentError
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.door import (
    check_data,
    check_program,
    first_parameter,
    where_weights_are,
)
from pyro_idvae.programs.run import Program, gradients


@overload
def find_witness(
    model: Likelihood,
    x: None = None,
    *,
    radius: float | None = None,
    min_separation: float | None = None,
    num_starts: int | None = None,
    num_steps: int | None = None,
    learning_rate: float = 0.05,
    seed: int = 0,
) -> Witness: ...


@overload
def find_witness(
    model: Program,
    x: Any,
    *,
    radius: float | None = None,
    min_separation: float | None = None,
    num_starts: int | None = None,
    num_steps: int | None = None,
    learning_rate: float = 0.05,
    seed: int = 0,
) -> ModelWitness: ...


@left_as_found
@gradients()
def find_witness(
    model: Program | Likelihood,
    x: Any = None,
    *,
    radius: float | None = None,
    min_separation: float | None = None,
    num_starts: int | None = None,
    num_steps: int | None = None,
    learning_rate: float = 0.05,
    seed: int = 0,
) -> Witness | ModelWitness:
    r"""Search for two settings, far apart, that give the same distribution of the data.

    Of a likelihood: z ≠ z' whose p(x|z) and p(x|z') are closest per unit of distance, by
    :math:`\sqrt{8 D_B(z,z')}/|z-z'|`. For an injective likelihood with Normal noise no pair goes
    below its L.

    Of a model on its data: two settings θ ≠ θ' of **all** its continuous latents, global ones and
    those of every row, by

    .. math:: \sqrt{J(\theta,\theta')}\,/\,|s(\theta) - s(\theta')|, \qquad
        J = \mathrm{KL}(p_\theta\,\|\,p_{\theta'}) + \mathrm{KL}(p_{\theta'}\,\|\,p_\theta)

    with J summed over the observed sites' distributions, and s the latents on the unconstrained
    scale in standard deviations of prior draws. J is in closed form where torch has one, else from
    draws of the data. θ is a prior draw. θ' stays where the prior has its mass: inside the radius,
    and no less probable than the least probable of 256 prior draws. An observed site that depends
    on the values of other observed ones is compared given the data. Data are compared **given** all
    latents, those of rows too: that a loading may double where its factors halve is found, though
    the factors' prior knows the scale; so is a hyperparameter that moves while its latents stay,
    and then ``prior_distance`` says how far apart their priors are. A few rows are enough where all
    rows are alike.

    Both by gradient steps from many pairs: of prior draws and, of a model, of a prior draw and what
    turned signs and other orders make of it. It is a search: a small ratio proves that data cannot
    tell the two apart, a large one proves nothing.

    Args:
        model: a likelihood whose family has a Bhattacharyya distance; or any Pyro model.
        x: the model's data: a Tensor, or a tuple or dict of its arguments. None for a likelihood.
        radius: both stay this near the middle of the prior; √K + 2 by default, K the number of
            coordinates of all latents.
        min_separation: pairs stay at least this far apart, below twice the radius; by default .5
            for a likelihood and 1 for a model.
        num_starts: pairs to start from; by default 512 for a likelihood, and for a model as many as
            fit, 8 to 64.
        num_steps: Adam steps; by default 200 for a likelihood and 100 for a model, whose best pairs
            L-BFGS takes on from there.
        learning_rate: of Adam; for a model it falls in the second half of the steps.
        seed: seed of the starts.

    Returns:
        The best pair met, a :class:`Witness` or a :class:`ModelWitness`. The random state and the
        parameter store are left as they were.

    Raises:
        NoCertificateError: for likelihoods without a closed form of the distance.
        ArgumentError: for arguments out of range, weights that are not finite, and models without
            continuous latents or observed sites, with discrete latents, or with ``pyro.factor``.
        DataError: if no pair has a finite distance.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro_idvae import find_witness
        >>> from pyro_idvae.distributions import NeuralLikelihood, make_family
        >>> decoder = torch.nn.Linear(2, 5)
        >>> _ = decoder.weight.data[:, 1].zero_()
        >>> witness = find_witness(NeuralLikelihood(make_family("normal"), decoder))
        >>> witness.ratio < 0.01, [round(abs(float(v)), 2) for v in witness.direction]
        (True, [0.0, 1.0])
        >>> def model(x, y):
        ...     a = pyro.sample("a", dist.Normal(0.0, 1.0))
        ...     b = pyro.sample("b", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("y", dist.Normal(a * b * x, 0.1), obs=y)
        >>> x = torch.linspace(-1.0, 1.0, 20)
        >>> witness = find_witness(model, (x, 0.5 * x), num_steps=50)
        >>> witness.distance < 1e-6, witness.separation > 1
        (True, True)
    """
    check_real("learning_rate", learning_rate, above=0.0)
    check_seed(seed)
    for name, count in (("num_starts", num_starts), ("num_steps", num_steps)):
        if count is not None:
            check_count(name, count)
    if radius is not None:
        check_real("radius", radius, above=0.0)
    if isinstance(model, Likelihood):
        if x is not None:
            raise ArgumentError("x was given with a likelihood: pass the model with data")
        reach = model.latent_dim**0.5 + 2 if radius is None else radius
        apart = 0.5 if min_separation is None else min_separation
        return of_likelihood.search(
            model,
            reach=reach,
            apart=check_real("min_separation", apart, above=0.0, below=2 * reach),
            num_starts=512 if num_starts is None else num_starts,
            num_steps=200 if num_steps is None else num_steps,
            learning_rate=learning_rate,
            seed=seed,
        )
    if x is None:
        raise ArgumentError(
            f"model is a {type(model).__name__} and x=None: pass a model with its data x, or a "
            "Likelihood alone"
        )
    arguments = as_arguments(x, "x")
    check_program("model", model, arguments)
    arguments = where_weights_are(arguments, model)
    check_data(model, arguments, like=first_parameter(model), missing=True)
    return of_model.search(
        model,
        arguments,
        radius=radius,
        min_separation=1.0 if min_separation is None else min_separation,
        num_starts=num_starts,
        num_steps=100 if num_steps is None else num_steps,
        learning_rate=learning_rate,
        seed=seed,
    )
