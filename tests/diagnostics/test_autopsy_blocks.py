"""An autopsy block by block says what one of all rows at once says."""

from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from pyro_idvae import AutoInjectiveLaplace, autopsy
from pyro_idvae.diagnostics.autopsy.case import Case, Exact, exact_posterior
from pyro_idvae.diagnostics.autopsy.examine import free_q, kept_by_guide, known_jointly
from pyro_idvae.diagnostics.autopsy.kept import Kept
from pyro_idvae.diagnostics.mixing import some_rows
from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.rowwise.blocks import blocks_of
from pyro_idvae.infer.sampling import Sampling
from pyro_idvae.programs.door import open_pair
from tests.diagnostics.test_autopsy import (
    AmortisedGuide,
    PriorGuide,
    constant_decoder,
    healthy_idvae,
    spare_pca,
)

OPTIONS = {"num_samples": 100, "num_chains": 4, "num_steps": 200, "seed": 0}


@pytest.mark.parametrize("guide", ["encoder", "prior"])
def test_blocks_have_the_verdicts_of_all_rows(guide):
    model, x = spare_pca()
    q = AmortisedGuide(5, 2) if guide == "encoder" else PriorGuide()
    whole = autopsy(model, q, x, **OPTIONS)
    found = autopsy(model, q, x, block_size=37, **OPTIONS)
    assert found.verdicts == whole.verdicts
    assert list(found.table.columns) == list(whole.table.columns)
    # Other draws of the same laws: nats within what 400 draws of 100 rows tell.
    assert found.exact.table["kl"].to_numpy() == pytest.approx(
        whole.exact.table["kl"].to_numpy(), abs=0.05
    )
    for name in ("guide", "free"):
        one, other = (side.table[name].to_numpy(dtype=float) for side in (found, whole))
        np.testing.assert_allclose(one, other, atol=0.1)
    error = np.hypot(found.gap.total.mcse, whole.gap.total.mcse)
    assert found.gap.total.mean == pytest.approx(whole.gap.total.mean, abs=4 * error)
    assert len(found.gap.evidence.value) == len(found.gap.elbo.value) == len(x)
    assert found.guide.num_points == len(x)


def test_a_seed_repeats_them_and_parameters_are_put_back():
    vae, x = constant_decoder()
    few = {"num_samples": 20, "num_chains": 2, "num_steps": 5, "seed": 0, "block_size": 7}
    before = {name: p.detach().clone() for name, p in vae.named_parameters()}
    one, other = (autopsy(vae.model, vae.guide, x[:20], **few) for _ in range(2))
    assert str(one) == str(other)
    assert all(torch.equal(p, before[name]) for name, p in vae.named_parameters())


def test_reference_rows_are_in_blocks_too():
    model, x = spare_pca()
    found = autopsy(model, AmortisedGuide(5, 2), x[:40], reference=x[40:], block_size=16, **OPTIONS)
    assert np.isfinite(found.table["guide_reference"].to_numpy(dtype=float)).all()


def test_guides_of_certain_rows_are_refused():
    model, x = spare_pca()
    guide = AutoNormal(model)
    guide(x)
    state = torch.get_rng_state()
    with pytest.raises(ArgumentError, match="parameters of the guide belong to certain rows"):
        autopsy(model, guide, x, block_size=10, **OPTIONS)
    with pytest.raises(ArgumentError, match="block_size=0"):
        autopsy(model, PriorGuide(), x, block_size=0, **OPTIONS)
    assert torch.equal(torch.get_rng_state(), state)


def curved(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z.exp(), 0.3), obs=x)


def curved_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x.clamp_min(0.1).log(), 0.5))


def test_a_block_whose_rows_are_all_left_out_says_nothing():
    x = torch.linspace(0.5, 3, 8)
    bound = open_pair(curved, curved_guide, ((x,), {}))
    alone = bound.without_guide()
    sampling = Sampling(kernel="vectorized", num_samples=50, num_chains=2, seed=0, progress=False)
    exact, _ = exact_posterior(alone, sampling, epsilon=0.05, confidence=0.95)
    bound.factorises = alone.factorises
    # As if the chains of the last four rows disagreed.
    few = Exact(some_rows(exact.latents, np.arange(4)), np.arange(4), exact.values)
    blocks = blocks_of(8, 4, 0, x.device)
    whole, none = Case(bound, alone, few, blocks).by_blocks(partial(kept_by_guide, number=100))
    nothing = Case(
        bound.on_rows(torch.arange(4, 8), with_guide=True),
        alone.on_rows(torch.arange(4, 8)),
        few.on(alone, 4, 8),
    )
    assert len(nothing.exact.rows) == 0
    assert [len(part) for part in none.latents] == [0]
    assert len(none.joint) == 0
    assert len(free_q(nothing, num_steps=20, number=100).kept.joint) == 0
    assert len(known_jointly(nothing)) == 0
    assert np.isfinite(Kept.of([whole, none]).latents).all()
    assert Kept.of([whole, none]).latents == pytest.approx(Kept.of([whole]).latents)


def test_laplace_guides_are_looked_at_in_blocks():
    vae, x = healthy_idvae()
    guide = AutoInjectiveLaplace(vae.model)
    found = autopsy(vae.model, guide, x, block_size=30, **OPTIONS)
    assert set(found.verdicts.values()) == {"healthy"}
