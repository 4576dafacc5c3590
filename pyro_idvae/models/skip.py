# SPDX-License-Identifier: Apache-2.0
"""A network that reads its input again in every layer: the decoder of skip-VAEs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from pyro_idvae._checks import check_callable, check_hidden_dims, check_last_dim
from pyro_idvae.errors import ArgumentError


class SkipMLP(nn.Module):
    r"""A multilayer perceptron with connections from its input to every layer:

    .. math:: h_1 = \sigma(W_1z + b_1), \qquad h_{l+1} = \sigma(W_{l+1}h_l + U_{l+1}z + b_{l+1}),

    the last layer without σ. As network of a :class:`NeuralLikelihood` it is the decoder of
    skip-VAEs.

    *Helps* deep decoders, in which z would be forgotten from layer to layer: as U may be 0, the
    best such decoder keeps at least as much information about x in z. *Does not help* as a promise:
    nothing keeps U from being 0, so the posterior may collapse as ever.

    Args:
        widths: of input, hidden layers and output.
        activation: constructor of σ.

    Shapes: ``batch + (widths[0],)`` to ``batch + (widths[-1],)``.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import NeuralLikelihood, make_family
        >>> from pyro_idvae.models import VAE, Encoder, SkipMLP
        >>> decoder = NeuralLikelihood(make_family("bernoulli"), SkipMLP([2, 16, 16, 5]))
        >>> vae = VAE(decoder, Encoder(5, 2, hidden_dims=[16]))
        >>> vae.likelihood.latent_dim, vae.likelihood.parameter_dim
        (2, 5)

    Reference:
        Dieng, Kim, Rush & Blei, *Avoiding Latent Variable Collapse With Generative Skip Models*,
        AISTATS 2019.
    """

    def __init__(
        self, widths: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        sizes = check_hidden_dims(widths, "widths")
        check_callable("activation", activation, "a constructor such as nn.ReLU", classes=True)
        if len(sizes) < 3:
            raise ArgumentError(
                f"widths={sizes}: expected an input, a hidden layer at least, and an output"
            )
        self.input_dim = sizes[0]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(sizes)])
        self.skips = nn.ModuleList([nn.Linear(sizes[0], b, bias=False) for b in sizes[2:]])
        self.activation = activation()

    def forward(self, z: Tensor) -> Tensor:
        """Return the output."""
        check_last_dim("z", z, self.input_dim)
        hidden: Tensor = self.layers[0](z)
        for layer, skip in zip(self.layers[1:], self.skips, strict=True):
            hidden = layer(self.activation(hidden)) + skip(z)
        return hidden
