# SPDX-License-Identifier: Apache-2.0
"""A penalty on decoders that bring latents together: inverse Lipschitz control."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_idvae._checks import check_count, check_real
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives.kl import is_local
from pyro_idvae.infer.objectives.objective import Objective
from pyro_idvae.infer.objectives.run import Run, run_model, with_values
from pyro_idvae.infer.objectives.signals import signals
from pyro_idvae.programs.sites import latent_sites

SHORTEST = 1e-30
"""Vectors that are shorter have no direction."""


class InverseLipschitz(Objective):
    r"""A penalty on a decoder that moves less than L where the latents move by 1.

    .. math:: \mathcal L = -\mathrm{ELBO} + \rho\,
        \max\Bigl(0, L - \frac{|f(z + rv) - f(z)|}{r}\Bigr)^2

    a data point, z a draw of the guide and v a unit vector. f is what the distribution of x depends
    on: the mean in noise scales for Normal, Laplace and Student-t, logits, log rates, else the
    mean. v is drawn at random and then turned, ``search_steps`` times, down the slope of
    :math:`|f(z + rv) - f(z)|` and as far as is best, towards where the decoder moves least.

    The paper builds decoders whose inverse Lipschitz constant is L whatever their weights, of
    Brenier maps; this asks of any decoder what :class:`IDVAE` has by construction.

    *Helps* against dead and folded directions near the data, of a decoder that cannot be replaced.
    *Does not help* as a promise: a search finds the worst of what it looks at, so there is no
    certificate; points further than r apart may still coincide. A step takes
    2 + 2 ``search_steps`` runs of the model.

    Args:
        lipschitz: L, in units of the decoder a prior standard deviation.
        weight: ρ, nats for a shortfall of 1.
        distance: r.
        search_steps: steps of the search for the worst direction.
        **options: arguments of :class:`Objective`.

    Example:
        >>> import torch
        >>> import pyro_idvae as idvae
        >>> from pyro_idvae.infer.objectives import InverseLipschitz
        >>> vae = idvae.IDVAE(5, 2, "normal", hidden_dims=[16], encoder_hidden_dims=[16])
        >>> x = torch.randn(20, 5)
        >>> torch.manual_seed(0).seed() and None
        >>> low, least = InverseLipschitz(1.0), vae.likelihood.lipschitz_bounds()[0]
        >>> least >= 1.0, low.shortfall(vae.model, vae.guide, x)
        (True, 0.0)

    Reference:
        Kinoshita, Oono, Fukumizu, Yoshida & Maeda, *Controlling Posterior Collapse by an Inverse
        Lipschitz Constraint on the Decoder Network*, ICML 2023.
    """

    exempt: Mapping[str, str] = {
        "gradient": "the direction that was found counts as fixed; search_steps=0 obeys",
    }

    def __init__(
        self,
        lipschitz: float = 1.0,
        *,
        weight: float = 10.0,
        distance: float = 1.0,
        search_steps: int = 2,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.lipschitz = torch.tensor(
            check_real("lipschitz", lipschitz, at_least=0.0), dtype=torch.double
        )
        self.weight = torch.tensor(check_real("weight", weight, at_least=0.0), dtype=torch.double)
        self.distance = check_real("distance", distance, above=0.0)
        self.search_steps = check_count("search_steps", search_steps, minimum=0)
        if search_steps == 0:
            self.exempt = {}

    def of_run(self, run: Run, *, training: bool) -> Tensor:
        """Return the loss of a run."""
        if float(self.weight) == 0.0 or float(self.lipschitz) == 0.0:
            return run.negative_elbo
        return run.negative_elbo + self.weight * self._penalty(run)

    def shortfall(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Return the mean over rows of what is missing to L in the directions that were found."""
        with torch.no_grad():
            (run, *_) = self.runs(model, guide, (args, kwargs), training=False)
            stretch, weights = self._stretch(run)
            missing = (self.lipschitz - stretch).clamp(min=0.0)
            return float((weights * missing).sum() / weights.sum())

    def _penalty(self, run: Run) -> Tensor:
        stretch, weights = self._stretch(run)
        return (weights * (self.lipschitz.to(stretch) - stretch).clamp(min=0.0).square()).sum()

    def _stretch(self, run: Run) -> tuple[Tensor, Tensor]:
        """Return |f(z + rv) − f(z)| / r of each row, and what the rows count."""
        local = {n: s for n, s in latent_sites(run.guide_trace).items() if is_local(s)}
        local = {n: s for n, s in local.items() if n in run.model_trace.nodes}
        if not local:
            raise ArgumentError(
                "the guide draws no latent in a plate: InverseLipschitz compares rows; put the "
                "latents into pyro.plate('data', n)"
            )
        decoder = _Decoder(run, local, self.distance)
        directions = decoder.random_directions()
        for _ in range(self.search_steps):
            directions = decoder.turned(directions)
        moved = decoder.moved(directions)
        # The slope of the root is infinite where a decoder stands still.
        root = (moved + torch.finfo(moved.dtype).tiny).sqrt()
        return root / self.distance, decoder.weights.reshape(-1)


class _Decoder:
    """A model as a function of the latents in the data's plate."""

    def __init__(self, run: Run, local: dict[str, Any], distance: float) -> None:
        self.run, self.distance = run, distance
        self.values = {name: site["value"] for name, site in local.items()}
        kls = [site for site in run.site_kls if site.name in local]
        self.weights = min((site.weights() for site in kls), key=lambda weights: weights.numel())
        self.rows = self.weights.numel()
        if any(value.numel() % self.rows for value in self.values.values()):
            raise ArgumentError(
                f"the latents {list(local)} are in plates of different rows: InverseLipschitz "
                "needs all in one plate"
            )
        self.base = signals(run.model_trace, self.rows)

    def random_directions(self) -> dict[str, Tensor]:
        """Return a unit vector of all latents for each row."""
        return self._unit(torch.randn_like(self._flat(self.values.values())))

    def _flat(self, vectors: Iterable[Tensor]) -> Tensor:
        """Return vectors of all latents side by side, of shape ``(rows, numbers)``."""
        return torch.cat([vector.reshape(self.rows, -1) for vector in vectors], -1)

    def _unit(self, flat: Tensor) -> dict[str, Tensor]:
        """Return flat vectors at length 1, by latent."""
        return self._parts(flat / flat.norm(dim=-1, keepdim=True).clamp(min=SHORTEST))

    def _parts(self, flat: Tensor) -> dict[str, Tensor]:
        """Return flat vectors by latent."""
        parts = flat.split([value.numel() // self.rows for value in self.values.values()], -1)
        pairs = zip(self.values.items(), parts, strict=True)
        return {name: part.reshape(value.shape) for (name, value), part in pairs}

    def moved(self, directions: dict[str, Tensor], *, fixed: bool = False) -> Tensor:
        """Return |f(z + rv) − f(z)|² of each row.

        Args:
            directions: v.
            fixed: whether z has no gradient.
        """
        start = {name: v.detach() if fixed else v for name, v in self.values.items()}
        base = self.base.detach() if fixed else self.base
        values = {name: start[name] + self.distance * d for name, d in directions.items()}
        moved = with_values(self.run.guide_trace, values)
        trace = run_model(self.run.model, moved, self.run.arguments)
        return (signals(trace, self.rows) - base).square().sum(-1)

    def turned(self, directions: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the directions after a step down the slope, along the sphere.

        In the plane of v and the slope w across it, a linear f moves by the quadratic form of a
        2 × 2 matrix, whose least direction is taken.
        """
        with torch.enable_grad():
            free = {name: d.detach().requires_grad_() for name, d in directions.items()}
            along = self.moved(free, fixed=True)
            slopes = torch.autograd.grad(along.sum(), list(free.values()))
        flat, slope = self._flat(directions.values()), self._flat(slopes)
        across = slope - (slope * flat).sum(-1, keepdim=True) * flat
        across = across / across.norm(dim=-1, keepdim=True).clamp(min=SHORTEST)
        with torch.no_grad():
            beside = self.moved(self._parts(across), fixed=True)
        both = 0.5 * (slope * across).sum(-1)
        angle = 0.5 * (torch.atan2(2 * both, along.detach() - beside) + torch.pi).unsqueeze(-1)
        return self._unit(angle.cos() * flat + angle.sin() * across)
