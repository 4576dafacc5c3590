# SPDX-License-Identifier: Apache-2.0
"""Importance-weighted bounds with doubly reparametrised gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.kl import check_reparametrised, unwrapped
from pyro_idvae.infer.objectives.objective import Objective
from pyro_idvae.infer.objectives.run import Run, particles, run_guide, with_values
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.run import Program
from pyro_idvae.programs.sites import latent_sites


class ImportanceWeighted(Objective):
    r"""The importance-weighted bound of each data point, with low-noise gradients for the guide.

    With K draws :math:`z_k \sim q(z|x)` and :math:`w_k = p(x, z_k)/q(z_k|x)`

    .. math:: \mathcal L = -\log\frac1K\sum_k w_k, \qquad
        \nabla_\phi\mathcal L = -\sum_k\tilde w_k^2\,
        \frac{\partial\log w_k}{\partial z_k}\frac{\partial z_k}{\partial\phi},
        \quad \tilde w_k = w_k\Big/\sum_l w_l .

    The bound is taken in each element of the plates that all sites share, the data points, and not
    of the batch as a whole. The model's gradient is the ordinary one,
    :math:`-\sum_k\tilde w_k\,\partial\log w_k/\partial\theta`. Without the second
    reparametrisation, the guide's gradient loses its signal as K grows.

    *Helps* where the guide's family is too small: the bound asks less of it, so the decoder is not
    held to what the guide can follow. *Does not help* where the likelihood does not depend on z.
    The guide is not the best Normal approximation any more: judge by log p(x). A step takes K runs.

    Args:
        num_particles: draws K.
        doubly_reparametrised: whether to use the guide's gradient above, or the ordinary one.
        **options: further arguments of :class:`Objective`.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import ImportanceWeighted
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = torch.randn(50, 5)
        >>> many = ImportanceWeighted(num_particles=64, vectorize_particles=True)
        >>> elbo = ImportanceWeighted(num_particles=1)
        >>> many.loss(vae.model, vae.guide, x) < elbo.loss(vae.model, vae.guide, x)
        True

    Reference:
        Burda, Grosse & Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016; Tucker,
        Lawson, Gu & Maddison, *Doubly Reparameterized Gradient Estimators for Monte Carlo
        Objectives*, ICLR 2019.
    """

    exempt: Mapping[str, str] = {
        "optimum": "the bound of K draws has no closed form",
        "gradient": "the guide's gradient is right in expectation, and not that of one draw; "
        "doubly_reparametrised=False obeys",
    }

    def __init__(
        self, num_particles: int = 8, *, doubly_reparametrised: bool = True, **options: Any
    ) -> None:
        super().__init__(num_particles=num_particles, **options)
        if not isinstance(doubly_reparametrised, bool):
            raise ArgumentError(f"doubly_reparametrised={doubly_reparametrised!r}: expected a bool")
        self.doubly_reparametrised = doubly_reparametrised
        if not doubly_reparametrised:
            self.exempt = {k: v for k, v in self.exempt.items() if k != "gradient"}

    def runs(
        self, model: Program, guide: Program, arguments: Arguments, *, training: bool
    ) -> Iterator[Run]:
        """Yield the runs, the draws in each cut off from what they are drawn from by a copy."""
        first: Any = None
        for one_model, one_guide in particles(self, model, guide, arguments):
            if first is not None:  # draws of the same rows, where plates are subsampled
                one_guide = poutine.replay(one_guide, trace=first)  # noqa: PLW2901
            trace = run_guide(one_guide, arguments)
            first = _subsamples(trace) if first is None else first
            check_reparametrised(latent_sites(trace), type(self).__name__)
            if not (training and self.doubly_reparametrised):
                yield self.run_on(one_model, one_guide, arguments, trace)
                continue
            drawn = [name for name, site in latent_sites(trace).items() if not _is_point(site)]
            copies = {name: trace.nodes[name]["value"].clone() for name in drawn}
            if len(latent_sites(trace)) == 1:
                run = self.run_on(one_model, one_guide, arguments, with_values(trace, copies))
            else:
                # Sites that follow from others, or are drawn given others, follow the copies.
                again = _replayed(one_guide, trace, copies, arguments)
                run = self.run_on(one_model, one_guide, arguments, again)
            yield _Copied(run, copies)

    def of_run(self, run: Run, *, training: bool) -> Tensor:
        """Return the loss of one draw alone: a −ELBO."""
        loss: Tensor = -(self._scale(run) * self._log_weights(run)).sum()
        return loss

    def of_runs(self, runs: Sequence[Run], *, training: bool) -> Tensor:
        """Return the loss of all draws together."""
        log_weights = [self._log_weights(run) for run in runs]
        vectorized = self.vectorize_particles and self.num_particles > 1
        if vectorized:
            (stacked,) = log_weights
            place = -int(self.max_plate_nesting)
        else:
            stacked, place = torch.stack(log_weights), 0
        scale = self._scale(runs[0])
        bound = stacked.logsumexp(place, keepdim=True) - math.log(self.num_particles)
        loss: Tensor = -(scale * bound).sum()
        copied = [run for run in runs if isinstance(run, _Copied)]
        if not copied:
            return loss
        shares = stacked.detach().softmax(place)
        surrogate: Tensor = -(scale * shares * stacked).sum()
        for run, share in zip(copied, [shares] if vectorized else shares, strict=True):
            run.weigh(share)
        return loss.detach() + surrogate - surrogate.detach()

    def _scale(self, run: Run) -> Any:
        """Return what a data point counts: the scale of what is observed."""
        return run.model_trace.nodes[run.scored[0]]["scale"] if run.scored else 1.0

    def _log_weights(self, run: Run) -> Tensor:
        """Return log w in the plates that all sites share; others are summed over."""
        common, scored = _common_dims(run), {*latent_sites(run.model_trace), *run.scored}
        total: Any = 0.0
        for trace, names, sign in (
            (run.model_trace, scored, 1.0),
            (run.guide_trace, set(latent_sites(run.guide_trace)), -1.0),
        ):
            for log_prob in _log_probs(trace, names):
                total = total + sign * _summed(log_prob, common)
        if isinstance(run, _Copied):
            total = total + run.correction(common)
        found: Tensor = total / self._scale(run)
        return found


class _Copied(Run):
    """A run on copies of the draws, through which gradients can be weighed on their way back."""

    def __init__(self, run: Run, copies: dict[str, Tensor]) -> None:
        super().__init__(
            run.model, run.guide, run.arguments, run.guide_trace, run.model_trace, run.needed_by
        )
        self.copies = copies

    def weigh(self, share: Tensor) -> None:
        """Multiply the gradients that reach the draws by the draws' shares."""
        for name, copy in self.copies.items():
            if not copy.requires_grad:
                continue
            dims = len(self.guide_trace.nodes[name]["fn"].event_shape)
            whole = share.reshape(share.shape + (1,) * dims)
            while whole.dim() > copy.dim() and whole.shape[0] == 1:
                whole = whole.squeeze(0)
            copy.register_hook(lambda grad, weight=whole: grad * weight)

    def correction(self, kept: set[int]) -> Any:
        """Return 0, with the gradient of log q in the guide's parameters at the draws held fixed.

        It is added to −log q, which then has a gradient through the draws alone.
        """
        fixed = {name: copy.detach() for name, copy in self.copies.items()}
        sites = latent_sites(self.guide_trace)
        if len(sites) == 1:
            trace = with_values(self.guide_trace, fixed)
        else:
            trace = _replayed(self.guide, self.guide_trace, fixed, self.arguments)
        total: Any = sum(_summed(log_prob, kept) for log_prob in _log_probs(trace, set(sites)))
        return total - total.detach()


def _subsamples(trace: Any) -> Any:
    """Return a run of nothing but the rows that were chosen."""
    chosen = trace.copy()
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and not _upstream.is_subsampling(site):
            chosen.remove_node(name)
    return chosen


def _is_point(site: Any) -> bool:
    return isinstance(unwrapped(site["fn"])[0], dist.Delta)


def _replayed(guide: Program, trace: Any, values: dict[str, Tensor], arguments: Arguments) -> Any:
    """Run a guide on other values of some sites; what follows from them follows."""
    known = with_values(trace, values)
    for name in latent_sites(trace):
        if name not in values:
            known.remove_node(name)
    args, kwargs = arguments
    return poutine.trace(poutine.replay(guide, trace=known)).get_trace(*args, **kwargs)


def _log_probs(trace: Any, names: set[str]) -> list[Tensor]:
    trace.compute_log_prob(lambda name, site: name in names)
    # In the trace's order: sums are to be the same in every process.
    return [site["log_prob"] for name, site in trace.nodes.items() if name in names]


def _common_dims(run: Run) -> set[int]:
    """Return the batch dimensions of the plates that all sites are in."""
    latents, nodes = latent_sites(run.guide_trace), run.model_trace.nodes
    sites = [*latents.values(), *(nodes[name] for name in run.scored)]
    plates = [{(f.name, f.dim) for f in s["cond_indep_stack"] if f.vectorized} for s in sites]
    return {dim for name, dim in set.intersection(*plates)}


def _summed(log_prob: Tensor, kept: set[int]) -> Tensor:
    """Sum over all dimensions but some, which are counted from the last; all stay, of size 1."""
    dims = [d for d in range(-log_prob.dim(), 0) if d not in kept]
    return log_prob.sum(dims, keepdim=True) if dims else log_prob
