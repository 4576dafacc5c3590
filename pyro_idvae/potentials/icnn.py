# SPDX-License-Identifier: Apache-2.0
"""The deep input-convex neural network with closed-form gradient and Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from pyro_idvae._checks import check_hidden_dims, inverse_softplus
from pyro_idvae.potentials.learnable import LearnablePotential
from pyro_idvae.potentials.spectrum import safe_root, squared_norm, weighted_squared_norm


class ICNN(LearnablePotential):
    r"""Input-convex neural network with softplus units s.

    .. math:: a_l = W_l\, s(a_{l-1}) + A_l x + b_l,\; W_l \ge 0,\qquad
        \varphi(x) = \tfrac{\alpha}{2}|x|^2 + w^\top s(a_n) + c\cdot x,\; w > 0

    With δ_n = w ⊙ s′(a_n) and δ_{l−1} = (W_lᵀ δ_l) ⊙ s′(a_{l−1}) the gradient is
    αx + Σ_l A_lᵀ δ_l + c, and the Hessian is αI + Σ_l J_lᵀ diag(c_l s″(a_l)) J_l with
    c_n = w, c_{l−1} = W_lᵀ δ_l and J_l = A_l + W_l diag(s′(a_{l−1})) J_{l−1}.

    Units are smooth because a leaky-ReLU network has a discontinuous gradient, on which HMC's
    step size collapses.

    Args:
        dim: dimension d of the argument.
        hidden_dims: widths of the hidden layers.
        strong_convexity: floor of α, above 0.
        smoothness: ceiling M; None leaves it to the parameters.

    Example:
        >>> import torch
        >>> from pyro_idvae.potentials import ICNN
        >>> ICNN(3, hidden_dims=[16, 16]).gradient(torch.zeros(4, 3)).shape
        torch.Size([4, 3])

    Reference:
        Amos, Xu & Kolter, *Input Convex Neural Networks*, ICML 2017.
    """

    def __init__(
        self,
        dim: int,
        hidden_dims: Sequence[int] = (64, 64),
        *,
        strong_convexity: float = 0.1,
        smoothness: float | None = None,
    ) -> None:
        super().__init__(dim, strong_convexity=strong_convexity, smoothness=smoothness)
        widths = check_hidden_dims(hidden_dims)
        self.skips = nn.ParameterList(torch.randn(width, dim) / dim**0.5 for width in widths)
        self.biases = nn.ParameterList(torch.randn(width) for width in widths)
        self.raw_weights = nn.ParameterList(
            inverse_softplus((0.5 + torch.rand(width, previous)) / previous)
            for previous, width in pairwise(widths)
        )
        out = torch.full((widths[-1],), dim / sum(widths))
        self.raw_out = nn.Parameter(inverse_softplus(out))

    def _activations(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the pre-activations a_1…a_n and the non-negative W_2…W_n."""
        weights = [softplus(raw) for raw in self.raw_weights]
        activations = [linear(x, self.skips[0], self.biases[0])]
        for weight, skip, bias in zip(weights, self.skips[1:], self.biases[1:], strict=True):
            inner = linear(softplus(activations[-1]), weight)
            activations.append(inner + linear(x, skip, bias))
        return activations, weights

    def _value(self, x: Tensor) -> Tensor:
        activations, _ = self._activations(x)
        return softplus(activations[-1]) @ softplus(self.raw_out)

    def _sensitivities(
        self, activations: list[Tensor], weights: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return c_1…c_n and δ_1…δ_n."""
        outer = [softplus(self.raw_out).expand_as(activations[-1])]
        deltas = [outer[0] * activations[-1].sigmoid()]
        for weight, a in zip(reversed(weights), reversed(activations[:-1]), strict=True):
            outer.insert(0, deltas[0] @ weight)
            deltas.insert(0, outer[0] * a.sigmoid())
        return outer, deltas

    def _gradient(self, x: Tensor) -> Tensor:
        activations, weights = self._activations(x)
        _, deltas = self._sensitivities(activations, weights)
        terms = [delta @ skip for delta, skip in zip(deltas, self.skips, strict=True)]
        return torch.stack(terms).sum(0)

    def _gradient_and_hessian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        eye = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        return self._gradient(x), self._hessian_product(x, eye)

    def _hessian_product(self, x: Tensor, matrix: Tensor) -> Tensor:
        activations, weights = self._activations(x)
        outer, _ = self._sensitivities(activations, weights)
        slopes = [a.sigmoid().unsqueeze(-1) for a in activations]
        bends = [
            (c.unsqueeze(-1) * slope * (1 - slope)) for c, slope in zip(outer, slopes, strict=True)
        ]
        tangents = [self.skips[0] @ matrix]
        for weight, skip, slope in zip(weights, self.skips[1:], slopes[:-1], strict=True):
            tangents.append(skip @ matrix + weight @ (slope * tangents[-1]))
        pull = bends[-1] * tangents[-1]
        product: Tensor = self.skips[-1].mT @ pull
        for layer in range(len(weights) - 1, -1, -1):
            pull = bends[layer] * tangents[layer] + slopes[layer] * (weights[layer].mT @ pull)
            product = product + self.skips[layer].mT @ pull
        return product

    def _curvature_bounds(self) -> tuple[Tensor, Tensor]:
        # s″ ≤ ¼ and s′ ≤ 1 bound c_l and J_l layer by layer.
        weights = [softplus(raw) for raw in self.raw_weights]
        outer = [softplus(self.raw_out)]
        for weight in reversed(weights):
            outer.insert(0, outer[0] @ weight)
        high = 0.25 * weighted_squared_norm(outer[0], self.skips[0])
        jacobian = safe_root(squared_norm(self.skips[0]))
        for c, weight, skip in zip(outer[1:], weights, self.skips[1:], strict=True):
            direct = safe_root(weighted_squared_norm(c, skip))
            norm = direct + safe_root(weighted_squared_norm(c, weight)) * jacobian
            high = high + 0.25 * norm.square()
            jacobian = safe_root(squared_norm(skip)) + safe_root(squared_norm(weight)) * jacobian
        return torch.zeros_like(high), high
