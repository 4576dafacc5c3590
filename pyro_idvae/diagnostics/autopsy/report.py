# SPDX-License-Identifier: Apache-2.0
"""Who lost the information: the model, the guide's family, its encoder, or the optimiser."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyro

from pyro_idvae._checks import check_count, check_further, check_real, check_seed
from pyro_idvae.diagnostics.autopsy.case import Case
from pyro_idvae.diagnostics.autopsy.examine import (
    Free,
    free_q,
    guide_draws,
    kept_by_guide,
    known_jointly,
)
from pyro_idvae.diagnostics.autopsy.gap import InferenceGap
from pyro_idvae.diagnostics.autopsy.kept import Kept, mean_kept
from pyro_idvae.diagnostics.autopsy.retrain import Lessons, restored, teachable
from pyro_idvae.diagnostics.autopsy.sides import case_of, gap_of
from pyro_idvae.diagnostics.autopsy.verdict import (
    AMORTISATION,
    OPTIMISATION,
    Findings,
    judge_latents,
)
from pyro_idvae.diagnostics.collapse import CollapseReport, report_on
from pyro_idvae.diagnostics.parts import Parts
from pyro_idvae.errors import NoCertificateError
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.programs.arguments import as_arguments
from pyro_idvae.programs.as_found import left_as_found
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.door import open_pair
from pyro_idvae.programs.run import Program, gradients


@dataclass(frozen=True, repr=False)
class Autopsy:
    """Where each latent's information was lost, in nats.

    Attributes:
        table: one row for each latent dimension: ``verdict``; ``exact``, the mean KL of the exact
            posterior to the prior, with ``exact_lower`` and ``exact_upper``; what is kept of it by
            the ``guide``, a freely optimised q (``free``) and the guide taught from exact draws
            (``retrained``); with reference rows, ``exact_reference`` and ``guide_reference`` there;
            ``evidence`` in words.
        exact: the collapse report of the exact posterior.
        guide: the collapse report of the guide.
        family: the family of the free q; empty without one.
        notes: what was left out, and why.
        gap: what the guide loses of log p(x), all latents together; None where rows share latents.
    """

    table: pd.DataFrame
    exact: CollapseReport
    guide: CollapseReport
    family: str
    notes: tuple[str, ...]
    gap: InferenceGap | None = None

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict of each latent."""
        return dict(zip(self.table.index, self.table["verdict"], strict=True))

    def __str__(self) -> str:
        lines = [
            "autopsy, in nats: what the exact posterior has, and what is kept of it "
            f"(free q: {self.family or 'none'})"
        ]
        for name, row in self.table.iterrows():
            lines.append(f"  {name}: {row['verdict']}: {row['evidence']}")
        if self.gap is not None:
            lines.append(f"  {self.gap}")
        notes = [*self.exact.chains.lines(), *self.notes]
        return "\n".join([*lines, *(f"  note: {note}" for note in notes)])

    __repr__ = __str__


@left_as_found
@gradients()
def autopsy(
    model: Program,
    guide: Program,
    data: Any,
    *,
    reference: Any = None,
    epsilon: float = 0.05,
    confidence: float = 0.95,
    share: float = 0.5,
    num_samples: int = 500,
    num_chains: int = 4,
    num_steps: int = 500,
    block_size: int | None = None,
    mcmc_options: dict[str, Any] | None = None,
    seed: int | None = None,
    progress: bool = False,
) -> Autopsy:
    r"""Tell, latent by latent, who lost the information that the guide does not have.

    Four posteriors are compared: the exact one, by MCMC at the model's parameters as they are; a q
    of the guide's family, optimised freely for each data point; the guide's own encoder, taught
    from the exact posterior's draws; the guide as it is. A latent's verdict is

    - *model*: the exact posterior is the prior, by the limit of :func:`collapse_report`, with the
      other latents known. The likelihood does not depend on the latent, or by less than ε: no
      guide, no training can change that. Only another model can.
    - *joint*: alone it is the prior, with the other latents known it is not, as for two latents of
      which the data show the sum.
    - *family*: the exact posterior is informative, the free q keeps less than ``share`` of it, and
      the taught encoder does not keep as much either, of each latent and of all together.
    - *amortisation*: the free q keeps it, the encoder does not even when taught.
    - *generalisation*: the guide keeps it on the reference rows, on ``data`` it does not.
    - *optimisation*: the taught encoder keeps it (or, for a guide without one, the free q).
    - *healthy*: the guide keeps it.
    - *unknown*: the guide loses it, and its family cannot be freed, as that of sites which depend
      on one another.
    - *undecided*: the exact posterior is, and why is said.

    What a q keeps of the exact posterior's information about :math:`z_k` is

    .. math:: \mathbb E_{p(z_k|x)}\Bigl[\log\frac{q(z_k|x)}{p(z_k)}\Bigr]
        = \mathrm{KL}(p(z_k|x)\,\|\,p(z_k)) - \mathrm{KL}(p(z_k|x)\,\|\,q(z_k|x)),

    averaged over data points: 0 for a guide that is the prior, all of it for the exact posterior,
    and less for one that is confident and wrong. Verdicts count at least 0 in each row, and the
    evidence says in how many q is worse than the prior. Marginals of q are its own where they have
    a closed form (Normals, mixtures, independent coordinates); else they are fitted to its draws as
    a collapse report does. The free q has the arguments of the site's distribution, or of its base,
    free for each data point, and transforms that are trained for all of them.

    ``gap`` says what the guide loses of log p(x) in all, :class:`InferenceGap`, with log p(x) by
    annealing.

    Parameters are put back as they were, whatever happens.

    Args:
        model: the model, any callable.
        guide: its guide, any callable.
        data: a Tensor, or a tuple or dict of the model's arguments; some hundred rows will do.
        reference: rows that the guide was trained on, if those of ``data`` were held out; some
            hundred. The encoder is taught on them, and read on ``data``.
        epsilon: nats below which a divergence counts as none.
        confidence: of each one-sided limit.
        share: a q that keeps less than this share of the exact information has lost it.
        num_samples: draws a chain; of each q as many as of all chains.
        num_chains: chains.
        num_steps: steps of the free q and of the encoder's lessons.
        block_size: rows at a time, to save memory; None for all. Needs an amortised guide, and rows
            that have nothing to do with one another. Blocks have random numbers of their own;
            processes that ``torchrun`` started share them.
        mcmc_options: further arguments of :func:`mcmc` about the sampler; ``kernel`` is
            ``"vectorized"`` if the model factorises over its data plate, else ``"nuts"``.
        seed: seed of Pyro's random numbers.
        progress: show the sampler's progress bar.

    Returns:
        An :class:`Autopsy`.

    Raises:
        SiteMismatchError: if the guide's sites are not the model's.
        ArgumentError: for arguments out of range, a model that cannot be sampled, or rows that are
            not apart, with ``block_size``.
        DataError: for a guide that is a point: it has no information to keep.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> vae = idvae.IDVAE(5, 1, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = vae.likelihood.condition(torch.randn(50, 1)).sample()
        >>> guide = idvae.AutoInjectiveLaplace(vae.model)
        >>> idvae.autopsy(vae.model, guide, x, num_samples=100, num_steps=100, seed=0).verdicts
        {'latent[0]': 'healthy'}

    Reference:
        Wang, Blei & Cunningham, *Posterior Collapse and Latent Variable Non-identifiability*,
        NeurIPS 2021; Cremer, Li & Duvenaud, *Inference Suboptimality in Variational Autoencoders*,
        ICML 2018.
    """
    check_real("share", share, above=0.0, below=1.0)
    check_count("num_steps", num_steps)
    check_real("epsilon", epsilon, above=0.0)
    check_real("confidence", confidence, above=0.5, below=1.0)
    if block_size is not None:
        check_count("block_size", block_size)
    if seed is not None:
        check_seed(seed)
    known = {field.name for field in fields(Sampling)}
    options = {
        "num_samples": num_samples,
        "num_chains": num_chains,
        "seed": seed,
        "progress": progress,
        **check_further("mcmc_options", mcmc_options or {}, known, "{'kernel': 'nuts'}"),
    }
    limits: dict[str, Any] = {"epsilon": epsilon, "confidence": confidence}
    total = check_count("num_samples", num_samples) * check_count("num_chains", num_chains)
    names = set(pyro.get_param_store().keys())
    bound = open_pair(model, guide, as_arguments(data))
    taught: BoundModel | None = None
    if reference is not None:
        taught = open_pair(model, guide, as_arguments(reference, "reference"))
    with restored(bound, names):
        notes: list[str] = []
        here, found = case_of(bound, options, limits, notes, block_size)
        own = here.by_blocks(partial(guide_draws, number=total))
        of_guide = partial(kept_by_guide, number=total)
        kept = {"guide": Kept.of(here.by_blocks(of_guide, own))}
        free, free_kept = Free.join(
            here.by_blocks(partial(free_q, num_steps=num_steps, number=total))
        )
        if free_kept is not None:
            kept["free"] = free_kept
        gap = gap_of(here, free.elbo, total, block_size)
        notes += [note for note in (free.note, free.reason and f"no free q: {free.reason}") if note]
        there: Case | None = None
        reference_kept: dict[str, Kept] = {}
        if taught is not None:
            there, reference_report = case_of(taught, options, limits, [], block_size)
            reference_kept["guide"] = Kept.of(there.by_blocks(of_guide))
        parameters, reason = teachable(bound)
        notes += [reason] if reason else []
        lessons = Lessons(guide, parameters, num_steps, total)
        retrained = lessons.given(here, there, enough=share * found.table["kl"].to_numpy())
        if retrained is not None:
            kept["retrained"] = retrained[0]
            if retrained[1] is not None:
                reference_kept["retrained"] = retrained[1]
        jointly = [mean_kept(here.by_blocks(known_jointly)), *(k.joint for k in kept.values())]
        findings = Findings(
            exact=found,
            kept=kept,
            joint=float(np.fmax.reduce(jointly)),
            reference=None if there is None else (reference_report, reference_kept),
            injective=_is_injective(here.alone),
            no_free=free.reason,
        )
    table = judge_latents(findings, share)
    if reference is None and table["verdict"].isin([AMORTISATION, OPTIMISATION]).any():
        notes.append(
            "what is taught and what is freed was fitted to these very rows: if the guide was "
            "trained on others, pass some of those as reference="
        )
    of_own = report_on(Parts.held(own), **limits)
    return Autopsy(table, found, of_own, free.family, tuple(notes), gap)


def _is_injective(alone: BoundModel) -> bool:
    try:
        return bool(alone.likelihood_call().likelihood.identifiable)
    except NoCertificateError:
        return False
