"""Whatever sites and plates are called and shaped: draws → ArviZ → report → every plot."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyro_idvae import (
    collapse_report,
    compare,
    from_guide,
    from_mcmc,
    plot_collapse,
    plot_compare,
    plot_likelihood_surface,
    plot_prior_posterior,
)
from pyro_idvae.arviz_io import groups_of
from pyro_idvae.diagnostics.latents import Latents
from pyro_idvae.errors import ArgumentError

ROWS = 3
NAMES = ["z", "data", "row", "data_point", "latent", "chain", "draw", "z_dim_0", "kl", "prior"]


@dataclass(frozen=True)
class Named:
    """A model: one latent and one observation, their names, plates and event shapes."""

    latent: str
    observed: str
    plate: str
    depth: int
    event: tuple[int, ...]

    def __call__(self, x):
        with pyro.plate(self.plate, len(x), dim=-self.depth):
            prior = dist.Normal(torch.zeros(self.event), 1.0).to_event(len(self.event))
            z = pyro.sample(self.latent, prior)
            mean = z.reshape(*z.shape[: z.dim() - len(self.event)], -1).sum(-1)
            pyro.sample(self.observed, dist.Normal(mean, 1.0), obs=x.reshape(mean.shape))

    def guide(self, x):
        with pyro.plate(self.plate, len(x), dim=-self.depth):
            prior = dist.Normal(torch.full(self.event, 0.3), 0.8)
            pyro.sample(self.latent, prior.to_event(len(self.event)))


@st.composite
def models(draw):
    latent, observed = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True))
    return Named(
        latent,
        observed,
        # Pyro itself has one name space for plates and sites.
        draw(st.sampled_from([n for n in (*NAMES, "rows") if n not in (latent, observed)])),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([(), (1,), (2,), (2, 2)])),
    )


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(models())
def test_names_and_shapes_go_through(model):
    x = torch.tensor([0.5, -1.0, 3.0])
    kept = {"chain", "draw"} & {model.latent, model.observed}
    if kept:
        with pytest.raises(ArgumentError, match="sites called"):
            from_guide(model, model.guide, x, num_samples=30)
        return
    svi = from_guide(model, model.guide, x, num_samples=30)
    size = (2, 20, ROWS, *[1] * (model.depth - 1), *model.event)
    nuts = from_mcmc({model.latent: torch.randn(size)}, model, x)
    for data in (svi, nuts):
        latents = Latents.of(data)
        (site,) = latents.sites.values()
        count = int(np.prod(model.event, dtype=int))
        assert site.local
        assert site.values.shape[2:] == (ROWS, count)
        assert latents.data_dim in groups_of(data)["posterior"][model.latent].dims
        report = collapse_report(data)
        assert len(report.table) == count
        assert (report.table["data_points"] == ROWS).all()
        assert report.per_point["kl"].shape == (ROWS, count)
        rows = plot_prior_posterior(data, num_data=10, num_latents=10)
        assert rows.shape == (ROWS, count)
        labels = [ax.get_ylabel() for ax in rows[:, 0]]
        assert labels == [f"{latents.data_dim} {i}" for i in range(ROWS)]
        assert [ax.get_xlabel() for ax in rows[-1]] == list(site.labels)
        assert len(plot_collapse(report).get_yticklabels()) == count + 1
        plt.close("all")
    table = compare(svi, nuts).table
    assert len(table) == ROWS * count
    shown = min(count, 4)
    assert plot_compare(svi, nuts, row=ROWS - 1).shape == (shown, shown)
    plot_likelihood_surface(model, x, row=ROWS - 1, num_points=4)
    plt.close("all")


def test_a_latent_named_data_is_no_data_point():
    """Plots once took the three data points for latents, in silence."""
    model = Named("data", "x", "rows", 1, (2,))
    draws = from_guide(model, model.guide, torch.zeros(ROWS), num_samples=30)
    axes = plot_prior_posterior(draws)
    assert axes.shape == (ROWS, 2)
    assert [ax.get_xlabel() for ax in axes[-1]] == ["data[0]", "data[1]"]
    assert collapse_report(draws).table.index.tolist() == ["data[0]", "data[1]"]
    plt.close("all")
