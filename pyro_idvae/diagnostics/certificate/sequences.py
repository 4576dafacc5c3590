# SPDX-License-Identifier: Apache-2.0
"""An estimate of the information in sequences, from sequences that the likelihood draws itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_idvae.diagnostics.certificate.record import Certificate
from pyro_idvae.diagnostics.certificate.setting import Setting
from pyro_idvae.distributions import InjectiveAutoregressive, SequenceLikelihood
from pyro_idvae.errors import NoCertificateError

MOST_LOGITS = 2**31
"""Computed for an estimate, in blocks."""
LEAST_SEQUENCES, MOST_SEQUENCES = 20, 200
BOUND = "contrastive bound"


def sequence_certificate(
    likelihood: SequenceLikelihood, setting: Setting, bounds: tuple[float, float], num_samples: int
) -> Certificate:
    """Return the estimate for a likelihood of sequences in a model.

    Args:
        likelihood: whose latents are local to the sequences.
        setting: what it stands in.
        bounds: its (L, M).
        num_samples: draws of z.

    Raises:
        NoCertificateError: without data, whose length is not known; for latents that sequences
            share, and priors that differ.
    """
    if setting.latent is None:
        raise NoCertificateError(
            "what sequences carry grows with their length, which a likelihood has not alone: "
            "certify a model on its data"
        )
    if setting.rows != (1, 1, False):
        raise NoCertificateError(
            "sequences that share a z, or are masked: the estimate is for one sequence each, all "
            "of whose tokens are there; give their lengths to the likelihood"
        )
    if not setting.prior.same_for_all:
        raise NoCertificateError("the prior differs from row to row: certify rows of one prior")
    like = next(likelihood.parameters())
    z = setting.draws(num_samples, likelihood.latent_dim, like)
    num_tokens, lengths = setting.options["num_tokens"], setting.options.get("lengths")
    cost = num_samples * num_tokens * likelihood.vocabulary_size
    number = min(max(MOST_LOGITS // cost, LEAST_SEQUENCES), MOST_SEQUENCES, num_samples)
    if lengths is not None:
        lengths = lengths.expand(setting.latent["value"].shape[:-1]).reshape(-1)
        lengths = lengths[torch.randint(len(lengths), (number,), device=lengths.device)]
    low, error, tokens = contrastive_bound(likelihood, z, number, num_tokens, lengths)
    family = likelihood.family if isinstance(likelihood, InjectiveAutoregressive) else None
    capped = None if family is None else family.capped_rates()
    known = () if lengths is None else ("the lengths are given: those of these rows",)
    return Certificate(
        kind="estimate",
        family="categorical, autoregressive",
        latent_dim=likelihood.latent_dim,
        lipschitz_bounds=bounds,
        low=low,
        high=None,
        low_per_coordinate=None,
        standard_error=error,
        num_samples=num_samples,
        assumptions=(*setting.assumptions, *known),
        capped_share=None if capped is None else float(capped.float().mean()),
        repeats=tokens,
        bound=BOUND,
    )


@torch.no_grad()
def contrastive_bound(
    likelihood: SequenceLikelihood, z: Tensor, number: int, num_tokens: int, lengths: Tensor | None
) -> tuple[float, float, float]:
    r"""Return an estimate of a lower bound on I(z; x), its standard error, and tokens a sequence.

    .. math:: \frac1m\sum_{i\le m}\log\frac{p(x_i \mid z_i)}{\frac1S\sum_{j\le S}p(x_i \mid z_j)},
        \qquad x_i \sim p(x \mid z_i)

    With i = j among the terms it bounds the information about which of the S draws made x, which
    is at most I(x; z): low in expectation, and at most log S.

    Args:
        likelihood: which draws sequences.
        z: draws of the prior, of shape ``(S, K)``.
        number: m, at most S.
        num_tokens: T.
        lengths: of the sequences, of shape ``(m,)``, or None.

    Reference:
        Poole et al., *On Variational Bounds of Mutual Information*, ICML 2019.
    """
    x = likelihood.generate(z[:number], num_tokens, lengths=lengths)
    at_all = likelihood.condition(z.unsqueeze(-2), num_tokens=num_tokens, lengths=lengths)
    log_p = at_all.log_prob(x)
    terms = (log_p[:number].diagonal() - log_p.logsumexp(0)).double() + math.log(len(z))
    if not bool(terms.isfinite().all()):
        raise NoCertificateError(
            "the densities of sequences are not finite at draws of the prior: parameters overflow "
            "there; use smaller Lipschitz bounds, or double precision"
        )
    tokens = likelihood.counted(x, lengths).sum(-1).double().mean().item()
    return terms.mean().item(), terms.std().item() / math.sqrt(number), tokens
