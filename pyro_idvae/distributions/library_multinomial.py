# SPDX-License-Identifier: Apache-2.0
"""A multinomial whose number of trials differs from row to row."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_idvae import _upstream


class LibraryMultinomial(TorchDistribution):
    r"""Multinomial counts with a library size for each row.

    .. math:: \log p(x) = \log n! - \sum_v \log x_v! + \sum_v x_v \log\mathrm{softmax}(l)_v

    Pyro's own multinomial draws with one number of trials only.

    Args:
        total_count: n, whole numbers of shape ``batch``.
        logits: l, of shape ``batch + (V,)``.

    Example:
        >>> import torch
        >>> from pyro_idvae.distributions import LibraryMultinomial
        >>> d = LibraryMultinomial(torch.tensor([3.0, 100.0]), torch.zeros(2, 4))
        >>> d.sample().sum(-1)
        tensor([  3., 100.])
    """

    arg_constraints = {  # noqa: RUF012
        "total_count": constraints.nonnegative_integer,
        "logits": constraints.real_vector,
    }
    support = constraints.independent(constraints.nonnegative_integer, 1)

    def __init__(
        self, total_count: Tensor, logits: Tensor, validate_args: bool | None = None
    ) -> None:
        batch_shape = torch.broadcast_shapes(total_count.shape, logits.shape[:-1])
        self.total_count = total_count.expand(batch_shape)
        self.logits = logits.expand(*batch_shape, logits.shape[-1]).log_softmax(-1)
        super().__init__(batch_shape, logits.shape[-1:], validate_args=validate_args)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> Any:
        """Return batch and event shape from the shapes of the arguments."""
        logits = arg_shapes["logits"]
        batch_shape = torch.broadcast_shapes(arg_shapes["total_count"], logits[:-1])
        return batch_shape, torch.Size(logits[-1:])

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """Return the distribution with its batch expanded."""
        new = _upstream.checked_instance(self, LibraryMultinomial, _instance)
        batch_shape = torch.Size(batch_shape)
        new.total_count = self.total_count.expand(batch_shape)
        new.logits = self.logits.expand(batch_shape + self.event_shape)
        super(LibraryMultinomial, new).__init__(batch_shape, self.event_shape, validate_args=False)
        _upstream.set_validation(new, _upstream.validates(self))
        return new

    @property
    def mean(self) -> Tensor:
        """n·softmax(l)."""
        return self.total_count.unsqueeze(-1) * self.logits.exp()

    @property
    def variance(self) -> Tensor:
        """n·p·(1 − p)."""
        probs = self.logits.exp()
        return self.total_count.unsqueeze(-1) * probs * (1 - probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw by conditional binomials, one category after the other."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            probs = self.logits.exp().expand(shape)
            left = self.total_count.to(probs.dtype).expand(shape[:-1]).clone()
            rest = probs.flip(-1).cumsum(-1).flip(-1)
            counts = []
            for category in range(shape[-1] - 1):
                share = (probs[..., category] / rest[..., category]).clamp(0.0, 1.0)
                counts.append(torch.binomial(left, share))
                left = left - counts[-1]
            return torch.stack([*counts, left], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density, of shape ``batch``; the counts must sum to ``total_count``."""
        if _upstream.validates(self):
            self._validate_sample(value)
            if bool((value.sum(-1) != self.total_count).any()):
                raise ValueError("the counts of a row must sum to its total_count")
        ways = (self.total_count + 1.0).lgamma() - (value + 1.0).lgamma().sum(-1)
        return ways + (value * self.logits).sum(-1)
