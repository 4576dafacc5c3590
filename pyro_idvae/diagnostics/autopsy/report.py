# SPDX-License-Identifier: Apache-2.0
"""Who lost the information: the model, the guide's family, its encoder, or the optimiser."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
from torch import Tensor

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.diagnostics.autopsy.conditional import conditional_divergences
from pyro_idvae.diagnostics.autopsy.free import FreeNormal
from pyro_idvae.diagnostics.autopsy.kept import information_kept
from pyro_idvae.diagnostics.autopsy.retrain import guide_parameters, reset, restored, teach
from pyro_idvae.diagnostics.autopsy.verdict import judge_latents
from pyro_idvae.diagnostics.collapse import CollapseReport, report_on
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.draws import draw_guide, evaluated
from pyro_idvae.infer.mcmc import Sampling
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.factorisation import check_factorises
from pyro_idvae.programs.plates import check_amortised
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.sites import latent_sites, unwrap_masks


@dataclass(frozen=True, repr=False)
class Autopsy:
    """Where each latent's information was lost, in nats.

    Attributes:
        table: one row for each latent dimension: ``verdict``; ``exact``, the mean KL of the exact
            posterior to the prior, with ``exact_lower`` and ``exact_upper``; what is kept of it by
            the ``guide``, a freely optimised q (``free``) and the guide taught from exact draws
            (``retrained``); ``evidence`` in words.
        exact: the collapse report of the exact posterior.
        guide: the collapse report of the guide.
        family: the family of the free q.
        notes: what was left out, and why.
    """

    table: pd.DataFrame
    exact: CollapseReport
    guide: CollapseReport
    family: str
    notes: tuple[str, ...]

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict of each latent."""
        return dict(zip(self.table.index, self.table["verdict"], strict=True))

    def __str__(self) -> str:
        lines = [
            f"autopsy, in nats: what the exact posterior has, and what is kept of it (free q: "
            f"{self.family})"
        ]
        for name, row in self.table.iterrows():
            lines.append(f"  {name}: {row['verdict']}: {row['evidence']}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    __repr__ = __str__


def autopsy(
    model: Program,
    guide: Program,
    data: Any,
    *,
    epsilon: float = 0.05,
    confidence: float = 0.95,
    share: float = 0.5,
    num_samples: int = 500,
    num_chains: int = 4,
    num_steps: int = 500,
    mcmc_options: dict[str, Any] | None = None,
    seed: int | None = None,
    progress: bool = False,
) -> Autopsy:
    r"""Tell, latent by latent, who lost the information that the guide does not have.

    Four posteriors are compared: the exact one, by MCMC at the model's parameters as they are; a q
    of the guide's family, optimised freely for each data point; the guide's own encoder, taught
    from the exact posterior's draws; the guide as it is. A latent's verdict is

    - *model*: the exact posterior is the prior, by the equivalence test of
      :func:`collapse_report`, alone and with the other latents known. The likelihood does not
      depend on the latent: no guide, no training can change that. Only another model can.
    - *joint*: alone it is the prior, with the other latents known it is not, as for two latents of
      which the data show the sum.
    - *family*: the exact posterior is informative, the free q keeps less than ``share`` of it.
    - *amortisation*: the free q keeps it, the encoder does not even when taught.
    - *optimisation*: the taught encoder keeps it (or, for a guide without one, the free q).
    - *healthy*: the guide keeps it. *undecided*: the exact posterior's KL is.

    What a q keeps of the exact posterior's information about :math:`z_k` is

    .. math:: \mathbb E_{p(z_k|x)}\Bigl[\log\frac{q(z_k|x)}{p(z_k)}\Bigr]
        = \mathrm{KL}(p(z_k|x)\,\|\,p(z_k)) - \mathrm{KL}(p(z_k|x)\,\|\,q(z_k|x)),

    averaged over data points: 0 for a guide that is the prior, all of it for the exact posterior,
    and less for one that is confident and wrong. Marginals of q count as Normal on the scale on
    which the prior is.

    Parameters are put back as they were, whatever happens.

    Args:
        model: the model, any callable.
        guide: its guide, any callable.
        data: a Tensor, or a tuple or dict of the model's arguments; some hundred rows will do.
        epsilon: nats below which a divergence counts as none.
        confidence: of each one-sided limit.
        share: a q that keeps less than this share of the exact information has lost it.
        num_samples: draws a chain; of each q as many as of all chains.
        num_chains: chains.
        num_steps: steps of the free q and of the encoder's lessons.
        mcmc_options: further arguments of :func:`mcmc` about the sampler; ``kernel`` is
            ``"vectorized"`` if the model factorises over its data plate, else ``"nuts"``.
        seed: seed of Pyro's random numbers.
        progress: show the sampler's progress bar.

    Returns:
        An :class:`Autopsy`.

    Raises:
        SiteMismatchError: if the guide's sites are not the model's.
        ArgumentError: for arguments out of range, or a model that cannot be sampled.
        DataError: for a guide that is a point: it has no information to keep.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 1, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = vae.likelihood.condition(torch.randn(50, 1)).sample()
        >>> guide = idvae.AutoInjectiveLaplace(vae.model)
        >>> idvae.autopsy(vae.model, guide, x, num_samples=100, seed=0).verdicts
        {'latent[0]': 'healthy'}

    Reference:
        Wang, Blei & Cunningham, *Posterior Collapse and Latent Variable Non-identifiability*,
        NeurIPS 2021; Cremer, Li & Duvenaud, *Inference Suboptimality in Variational Autoencoders*,
        ICML 2018.
    """
    check_real("share", share, above=0.0, below=1.0)
    check_count("num_steps", num_steps)
    options = _sampling_options(mcmc_options or {})
    limits: dict[str, Any] = {"epsilon": epsilon, "confidence": confidence}
    notes: list[str] = []
    names = set(pyro.get_param_store().keys())
    bound = BoundModel(model, guide, as_arguments(data))
    with restored(bound, names):
        alone = bound.without_guide()
        try:
            check_factorises(alone)
        except ArgumentError as error:
            notes.append(f"one chain state for all rows: {error}")
        bound.factorises = alone.factorises
        sampling = Sampling(
            **{
                "kernel": "vectorized" if alone.factorises else "nuts",
                "num_samples": num_samples,
                "num_chains": num_chains,
                "seed": seed,
                "progress": progress,
                **options,
            }
        )
        draws = sampling.run(alone)
        exact = Latents.of_draws(alone, draws.with_prior(alone, draws.shape[1]))
        total = num_samples * num_chains
        own = Latents.of_draws(bound, draw_guide(bound, total).with_prior(alone, total))
        exact_report, guide_report = report_on(exact, **limits), report_on(own, **limits)
        kept = {"guide": information_kept(exact, own)}
        full = _is_full(bound)
        if alone.factorises:
            free = FreeNormal(alone, draws.values, full=full, num_steps=num_steps)
            values, log_q = free.sample(total)
            q = evaluated(alone, values, {"log_q": log_q}, independent=True, method="svi")
            kept["free"] = information_kept(exact, Latents.of_draws(alone, q))
        else:
            notes.append("no free q: rows that share latents have no q of their own")
        conditional = conditional_divergences(alone, draws.values)
        parameters, reason = _teachable(bound)
        notes += [reason] if reason else []
        # From where the encoder is, then from a fresh start: it may be where no gradient is left.
        for attempt in range(2 if parameters else 0):
            if attempt == 1 and not reset(guide, parameters):
                break
            teach(guide, parameters, bound.arguments, draws.values, num_steps=num_steps)
            again = Latents.of_draws(bound, draw_guide(bound, total))
            found = information_kept(exact, again)
            kept["retrained"] = np.fmax(kept.get("retrained", found), found)
            if (kept["retrained"] >= share * exact_report.table["kl"]).all():
                break
    table = judge_latents(exact_report, kept, conditional, share=share)
    family = f"{'full-covariance' if full else 'factorised'} Normal for each data point"
    return Autopsy(table, exact_report, guide_report, family, tuple(notes))


def _sampling_options(options: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(Sampling)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ArgumentError(f"mcmc_options has {unknown}: expected some of {sorted(known)}")
    return options


def _is_full(bound: BoundModel) -> bool:
    """Tell whether the guide has a covariance between the latents of one row."""
    return any(
        isinstance(unwrap_masks(site["fn"]), dist.MultivariateNormal)
        for site in latent_sites(bound.guide_trace).values()
    )


def _teachable(bound: BoundModel) -> tuple[list[Tensor], str]:
    """Return the parameters of a guide's encoder, or why there is nothing to teach."""
    parameters = guide_parameters(bound)
    if not parameters:
        return [], "the guide has no parameters of its own to train: nothing was retrained"
    try:
        check_amortised(bound.model, bound.guide, bound.arguments)
    except ArgumentError:
        return [], (
            "the guide's parameters belong to certain rows: it has no encoder to retrain, and "
            "what the free q shows is what it could learn"
        )
    return parameters, ""
