# SPDX-License-Identifier: Apache-2.0
"""Guides refined by a few steps for each data point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_idvae._checks import check_count, check_real, check_seed
from pyro_idvae.infer.objectives.normals import normal_of, rebuilt, reshaped
from pyro_idvae.infer.objectives.objective import Objective
from pyro_idvae.infer.objectives.run import Run, particles, run_guide, with_distributions
from pyro_idvae.programs.arguments import Arguments
from pyro_idvae.programs.run import Program, gradients, undisturbed
from pyro_idvae.programs.sites import latent_sites

Normals = dict[str, tuple[Tensor, Tensor]]
"""Mean and scale by site."""


class SemiAmortised(Objective):
    r"""Semi-amortised inference: the encoder says where to start, and each row goes on from there.

    From the guide's means and scales of a row, T steps up the slope of its ELBO,

    .. math:: \mu \leftarrow \mu + \eta c\,\sigma^2\,\partial_\mu\mathrm{ELBO}, \qquad
        \log\sigma \leftarrow \log\sigma + \tfrac12\eta c\,\partial_{\log\sigma}\mathrm{ELBO},

    each at a draw of its own and at its mirror image; c shortens steps to one standard deviation.
    These are natural gradients, where the paper takes plain ones, so that one step size suits wide
    and narrow posteriors, and mirrored draws, so that slopes of the mean have little noise. The
    loss is the −ELBO after the last step at a fresh draw, and so is still above −log p(x) on
    average. Its gradient is taken through all steps, which takes second derivatives of the decoder.

    *Helps* where the encoder is what is lacking (see :func:`autopsy`: amortisation). *Does not
    help* where the collapse is the optimum. A step takes 2 T + 1 runs of the model, forward
    and twice backward. For guides that draw independent Normals. Evaluate and draw with
    :meth:`trained_guide`, which refines; the encoder alone is a worse guide than a plain fit's.

    Args:
        num_steps: T; 0 for the plain ELBO.
        step_size: η.
        **options: arguments of :class:`Objective`.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import SemiAmortised
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x, refined = torch.randn(50, 5), SemiAmortised(num_steps=20)
        >>> refined.loss(vae.model, vae.guide, x) < SemiAmortised(0).loss(vae.model, vae.guide, x)
        True

    Reference:
        Kim, Wiseman, Miller, Sontag & Rush, *Semi-Amortized Variational Autoencoders*, ICML 2018.
    """

    exempt: Mapping[str, str] = {}

    def __init__(self, num_steps: int = 3, *, step_size: float = 0.3, **options: Any) -> None:
        super().__init__(**options)
        self.num_steps = check_count("num_steps", num_steps, minimum=0)
        self.step_size = check_real("step_size", step_size, above=0.0)

    def runs(
        self, model: Program, guide: Program, arguments: Arguments, *, training: bool
    ) -> Iterator[Run]:
        """Yield runs of the refined guide."""
        for one_model, one_guide in particles(self, model, guide, arguments):
            trace = run_guide(one_guide, arguments)
            if self.num_steps:
                found = self._refined(one_model, one_guide, arguments, trace, training=training)
                trace = _drawn(trace, found, {})
            yield self.run_on(one_model, one_guide, arguments, trace)

    def of_run(self, run: Run, *, training: bool) -> Tensor:
        """Return the −ELBO."""
        return run.negative_elbo

    def trained_guide(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Program:
        """Return the guide that refines."""
        return RefinedGuide(self, model, guide)

    def _refined(
        self, model: Program, guide: Program, arguments: Arguments, trace: Any, *, training: bool
    ) -> Normals:
        """Return means and scales after all steps."""
        sites = latent_sites(trace)
        normals = {n: normal_of(n, s["fn"], type(self).__name__)[:2] for n, s in sites.items()}
        for _ in range(self.num_steps):
            with torch.enable_grad():
                if not training:
                    normals = {n: (loc.detach(), sd.detach()) for n, (loc, sd) in normals.items()}
                normals = {n: (_free(loc), _free(sd)) for n, (loc, sd) in normals.items()}
                first = self.run_on(model, guide, arguments, _drawn(trace, normals, {}))
                drawn = {name: first.guide_trace.nodes[name]["value"] for name in normals}
                mirrored = {name: 2 * normals[name][0] - value for name, value in drawn.items()}
                other = self.run_on(model, guide, arguments, _drawn(trace, normals, mirrored))
                loss = 0.5 * (first.negative_elbo + other.negative_elbo)
                flat = [part for pair in normals.values() for part in pair]
                slopes = torch.autograd.grad(loss, flat, create_graph=training)
            pairs = zip(slopes[::2], slopes[1::2], strict=True)
            normals = {
                name: self._stepped(sites[name], *normals[name], *pair)
                for name, pair in zip(normals, pairs, strict=True)
            }
        return normals

    def _stepped(
        self, site: Any, loc: Tensor, scale: Tensor, of_loc: Tensor, of_scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        dims = len(site["fn"].event_shape)
        counts = site["scale"]
        if isinstance(counts, Tensor):
            counts = counts.reshape(counts.shape + (1,) * dims)
        # A row's own slope: the minibatch counts it several times.
        along, wider = scale * of_loc / counts, 0.5 * scale * of_scale / counts
        squares = along.square() + wider.square()
        if dims:
            squares = squares.sum(list(range(-dims, 0)), keepdim=True)
        step = self.step_size * squares.clamp(min=1.0).rsqrt()
        return loc - step * scale * along, scale * torch.exp(-step * wider)


class RefinedGuide(nn.Module):
    """A guide that refines what its encoder says, as a guide to draw from.

    Args:
        objective: refines.
        model: the model, whose ELBO is climbed.
        guide: the guide.
        seed: of the draws of the steps, the same in each call: so densities are no random numbers.
    """

    def __init__(
        self, objective: SemiAmortised, model: Program, guide: Program, seed: int = 0
    ) -> None:
        super().__init__()
        self.guide = guide
        self._held = objective, model  # in a tuple: the model's parameters are not the guide's
        self.seed = check_seed(seed)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the guide."""
        (objective, model), arguments = self._held, (args, kwargs)
        with gradients(), poutine.block(), undisturbed(arguments):
            torch.manual_seed(self.seed)
            trace = run_guide(self.guide, arguments)
            normals = objective._refined(model, self.guide, arguments, trace, training=False)

        def change(name: str, loc: Tensor, scale: Tensor, dims: int) -> tuple[Tensor, Tensor]:
            refined, wide = normals[name]
            return refined.detach(), wide.detach()

        return reshaped(self.guide, change, type(objective).__name__)(*args, **kwargs)


def _free(tensor: Tensor) -> Tensor:
    return tensor if tensor.requires_grad else tensor.detach().requires_grad_()


def _drawn(trace: Any, normals: Normals, values: dict[str, Tensor]) -> Any:
    """Return a run of the guide with other means and scales, at given values or fresh draws."""
    changed = {}
    for name, (loc, scale) in normals.items():
        fn = rebuilt(trace.nodes[name]["fn"], loc, scale)
        changed[name] = fn, values[name] if name in values else fn.rsample()
    return with_distributions(trace, changed)
