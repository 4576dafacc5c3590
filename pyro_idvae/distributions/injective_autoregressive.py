# SPDX-License-Identifier: Apache-2.0
"""Sequences of tokens that cannot ignore z: for every history an injective map of it."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from pyro_idvae.distributions.autoregressive import SequenceLikelihood, check_history
from pyro_idvae.distributions.base_rates import in_noise_units, prior_spread
from pyro_idvae.distributions.categorical import CategoricalFamily
from pyro_idvae.errors import ArgumentError, NoCertificateError, ShapeError
from pyro_idvae.transforms import ConditionalInjection


class InjectiveAutoregressive(SequenceLikelihood):
    r"""Tokens whose parameters are injective in z, whatever stands before them.

    .. math:: x_l \mid z, x_{<l} \sim \mathrm{Categorical}(f(z; h_l)), \qquad
        f(z; h) = g_2\big(\beta\, g_1(z; h) + a(h)\big), \qquad h_l = h(x_{<l})

    *Injective:* for every history f(·; h) is, with the same floor L, however many categories there
    are and however wide h is; V − 1 parameters without a redundant one determine the
    probabilities. Already the first token tells of z, and with a softmax of V logits, which forgets
    a common shift, even injective logits would promise nothing. The shift a(h) = U·h is one of
    logits, and free: what the history alone says.

    The history is computed once, from the tokens alone; z broadcasts over it.

    Args:
        history: a module from tokens to contexts, causal, such as ``models.RecurrentHistory``.
        injection: f, from R^K to R^(V−1), for contexts of the history's width and without a shift
            of its own.
        base: tokens whose base rates f is in noise units of, of shape ``(rows, T)``; see
            :func:`in_noise_units`. None for zero-sum logits.
        base_lengths: of these sequences, if they are padded.
        end_token: number of the mark that ends a sequence; None if lengths are given.

    Raises:
        ArgumentError: for parts of another kind.
        ShapeError: for widths that do not go together.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import InjectiveAutoregressive
        >>> from pyro_idvae.models import RecurrentHistory
        >>> from pyro_idvae.transforms import conditional_injection
        >>> history = RecurrentHistory(9, 16)
        >>> f = conditional_injection(2, 8, context_dim=16)
        >>> likelihood = InjectiveAutoregressive(history, f)
        >>> x = likelihood.condition(torch.randn(4, 2), num_tokens=7).sample()
        >>> x.shape, likelihood.condition(torch.randn(3, 4, 2), num_tokens=7).log_prob(x).shape
        (torch.Size([4, 7]), torch.Size([3, 4]))

    Reference:
        Wang, Blei & Cunningham, *Posterior Collapse and Latent Variable Non-identifiability*,
        NeurIPS 2021.
    """

    identifiable = True

    def __init__(
        self,
        history: nn.Module,
        injection: ConditionalInjection,
        *,
        base: Tensor | None = None,
        base_lengths: Tensor | None = None,
        end_token: int | None = None,
    ) -> None:
        if not isinstance(injection, ConditionalInjection):
            raise ArgumentError(
                f"injection is a {type(injection).__name__}: expected a ConditionalInjection"
            )
        super().__init__(injection.data_dim + 1, injection.latent_dim, end_token=end_token)
        self.history = check_history(history)
        for name, wanted, known in (
            ("context_dim", injection.context_dim, history.context_dim),
            ("vocabulary_size", self.vocabulary_size, history.vocabulary_size),
        ):
            if wanted != known:
                raise ShapeError(
                    f"history has {name}={known}, the injection is made for {wanted}: they must be "
                    "the same"
                )
        if injection.shift is not None:
            raise ArgumentError(
                "injection has a shift of its own: make it without, the history's goes through a "
                "linear map to logits"
            )
        self.injection = injection
        self.output = nn.Linear(injection.context_dim, self.vocabulary_size, bias=base is None)
        family: Any = CategoricalFamily()
        if base is not None:
            self.check_data(base)
            seen = base[self.counted(base, base_lengths)]
            zero = self.output.weight.new_zeros(injection.context_dim)
            spread = prior_spread(injection.condition(zero))
            family = in_noise_units(family, seen, injection.data_dim, spread=spread)
        self.family = family

    def contexts(self, tokens: Tensor) -> Tensor:
        """Return the histories."""
        found: Tensor = self.history(tokens)
        return found

    def logits(self, z: Tensor, contexts: Tensor) -> Tensor:
        """Return logits of each token, of shape ``batch + (T, V)``."""
        found: Tensor = self.family.basis.logits(self.eta(z, contexts))
        return found

    def eta(self, z: Tensor, contexts: Tensor) -> Tensor:
        """Return f(z; h) of each token, of shape ``batch + (T, V − 1)``."""
        # U in the basis, not each of its products: as many columns as h is wide, not as many as
        # there are tokens.
        units = self.family.basis.units
        shift = contexts @ units(self.output.weight.T)
        if self.output.bias is not None:
            shift = shift + units(self.output.bias)
        found: Tensor = self.injection.condition(contexts, shift)(z.unsqueeze(-2))
        return found.to(z.dtype)

    def lipschitz_bounds(self) -> tuple[float, float]:
        """Return (L, M) of f, the same for every history; M is infinite without a ceiling."""
        try:
            high = self.injection.ceiling()
        except NoCertificateError:
            high = math.inf
        return self.injection.floor(), high
