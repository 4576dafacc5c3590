"""What certify grants a model, in closed form, and what it finds by moving z and x."""

import json
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_idvae import IDVAE, AutoInjectiveLaplace, certify
from pyro_idvae.distributions import InjectiveBernoulli, InjectiveNormal, InjectivePoisson
from pyro_idvae.errors import ArgumentError, NoCertificateError
from pyro_idvae.transforms import brenier_injection

L, M = 1.0, 3.0
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
PRIOR = dist.Normal(torch.zeros(2), 1.0).to_event(1)


@pytest.fixture
def few_moves(monkeypatch):
    """For what is granted whatever the number of moves."""
    monkeypatch.setattr("pyro_idvae.programs.moves.MOST", 16)


@pytest.fixture
def normal():
    return InjectiveNormal(brenier_injection(2, 4, hidden_dims=[8], lipschitz_bounds=(L, M)))


def shared(likelihood, prior=PRIOR, plate_mask=True, **options):
    def model(x):
        z = pyro.sample("z", prior)
        with pyro.plate("data", len(x)), poutine.mask(mask=plate_mask):
            wide = z.expand(len(x), z.shape[-1])
            pyro.sample("x", likelihood.condition(wide, **options), obs=x)

    return model


def local(likelihood, prior=PRIOR, extra=lambda z, x: None, observe=lambda x: x, **options):
    def model(x, *more):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior)
            extra(z, x)
            given = {name: value(x) for name, value in options.items()}
            pyro.sample("x", likelihood.condition(z, **given), obs=observe(x))

    return model


def window(rows, bound):
    return math.log1p(rows * bound**2)


@pytest.mark.usefixtures("few_moves")
def test_one_latent_of_many_rows(normal):
    found = certify(shared(normal), X)
    assert found.low == pytest.approx(window(6, L), rel=1e-5)
    assert found.high == pytest.approx(window(6, M), rel=1e-5)
    assert found.low_per_coordinate == pytest.approx(found.low / 2)
    assert found.rows == (6, 6)
    assert "6 rows of data for one z" in str(found)
    assert "independent given z" in str(found)


@pytest.mark.usefixtures("few_moves")
def test_masks_count_whole_rows_below_and_seen_rows_above(normal):
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[0, 1] = mask[1] = False
    found = certify(shared(normal, mask=mask), X)
    assert found.rows == (4, 5)
    assert (found.low, found.high) == pytest.approx((window(4, L), window(5, M)), rel=1e-5)
    rows = torch.tensor([True, True, False, True, True, True])
    found = certify(shared(normal, plate_mask=rows, mask=mask), X)
    assert found.rows == (3, 4)
    assert "nothing to do with z or x" in str(found)
    # A latent of its own for each row: that of the row with the least, and with the most.
    found = certify(local(normal, mask=lambda x: mask), X)
    assert found.rows == (0, 1)
    assert (found.low, found.low_per_coordinate) == (0.0, None)
    assert "an upper limit alone" in str(found)
    assert json.loads(found.to_json())["low_per_coordinate"] is None


@pytest.mark.usefixtures("few_moves")
@pytest.mark.parametrize("around", [False, True])
def test_masks_around_the_likelihood_count_too(normal, around):
    seen = torch.tensor([True, True, True, False, True, True])

    def model(x):
        z = pyro.sample("z", PRIOR)
        with pyro.plate("data", len(x)):
            conditional = normal.condition(z.expand(len(x), -1))
            if around:
                conditional = conditional.mask(seen)
            else:
                entries = seen.unsqueeze(-1).expand(6, 4)
                conditional = conditional.base_dist.mask(entries).to_event(1)
            pyro.sample("x", conditional, obs=x)

    assert certify(model, X).rows == (5, 5)

    def made_of_z(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", PRIOR)
            pyro.sample("x", normal.condition(z).mask(z[:, 0] < 2), obs=x)

    with pytest.raises(NoCertificateError, match="which entries are observed depends on z"):
        certify(made_of_z, X)


@pytest.mark.usefixtures("few_moves")
def test_masks_made_of_what_is_missing_are_granted(normal):
    data = X.clone()
    data[2, 3] = torch.nan
    options = {"observe": torch.nan_to_num}
    assert certify(local(normal, mask=lambda x: ~x.isnan(), **options), data).rows == (0, 1)
    with pytest.raises(NoCertificateError, match="'mask' depends on the observed data"):
        certify(local(normal, mask=lambda x: x > 0.3, **options), data)


@pytest.mark.usefixtures("few_moves")
def test_estimates_of_models(normal):
    bernoulli, bits = InjectiveBernoulli(normal.injection), (X > 0).float()
    few = {"num_samples": 200}
    one, six = (certify(form(bernoulli), bits, **few) for form in (local, shared))
    assert six.low > 2 * one.low
    assert six.rows == (6, 6)
    mask = torch.ones(6, 4, dtype=torch.bool)
    assert certify(shared(bernoulli, mask=mask), bits, **few).rows == (6, 6)
    mask[2:, 0] = False
    assert certify(shared(bernoulli, mask=mask), bits, **few).rows == (2, 6)
    mask[:, 0] = False
    with pytest.raises(NoCertificateError, match="no upper limit that would stand alone"):
        certify(shared(bernoulli, mask=mask), bits)
    wild = brenier_injection(2, 4, hidden_dims=[8], lipschitz_bounds=(200.0, 300.0))
    with pytest.raises(NoCertificateError, match="not finite"):
        certify(InjectivePoisson(wild))


@pytest.mark.parametrize("seed", range(8))
def test_a_term_of_few_latents_is_found(normal, seed):
    """Each is 0 but for a part of the prior, or for none of it."""
    pyro.set_rng_seed(seed)
    for where in (
        lambda z: z.norm(dim=-1) > 3.5,
        lambda z: (z[..., 0] > 2) & (z[..., 0] < 2.5),
        lambda z: z[..., 1] < -5,
    ):

        def model(x, where=where):
            z = pyro.sample("z", PRIOR)
            pyro.factor("f", 5.0 * where(z))
            with pyro.plate("data", len(x)):
                pyro.sample("x", normal.condition(z), obs=x)

        with pytest.raises(NoCertificateError, match="'f' depends on z"):
            certify(model, X)


def test_a_small_term_behind_a_large_one_is_found(normal):
    def add(z, x):
        pyro.factor("f", -1e6 + z[..., 0])

    with pytest.raises(NoCertificateError, match="'f' depends on z"):
        certify(local(normal, extra=add), X)


def test_hooks_and_likelihoods_that_change_are_found(normal):
    handle = normal.register_forward_hook(
        lambda module, args, output: dist.Normal(2 * output.base_dist.loc, 1.0).to_event(1)
    )
    with pytest.raises(NoCertificateError, match="not what the likelihood returns"):
        certify(local(normal), X)
    handle.remove()

    def anew(x):
        local(InjectiveNormal(normal.injection))(x)

    with pytest.raises(NoCertificateError, match="made anew in each run"):
        certify(anew, X)

    def masked(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", PRIOR)
            seen = torch.tensor([True] * 5 + [False])
            pyro.sample("x", normal.condition(z), obs=x, obs_mask=seen)

    with pytest.raises(NoCertificateError, match="come from obs_mask"):
        certify(masked, X)

    def part(x):
        with pyro.plate("data", 7):
            z = pyro.sample("z", PRIOR)
        with pyro.plate("some", 6):
            pyro.sample("x", normal.condition(z[:6]), obs=x)

    with pytest.raises(NoCertificateError, match="not fed with"):
        certify(part, X)


def test_certifying_leaves_everything_as_it_was():
    vae = IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    vae.train()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    pyro.set_rng_seed(3)
    wanted = torch.randn(3)
    pyro.set_rng_seed(3)
    certify(vae.model, X)
    assert torch.equal(torch.randn(3), wanted)
    assert vae.model.training
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert not vae.likelihood._forward_hooks


def test_weights_that_are_not_finite_are_named(normal):
    with torch.no_grad():
        normal.injection.g2.potential.bias[0] = torch.nan
    for arguments in ((normal,), (local(normal), X), (InjectiveBernoulli(normal.injection),)):
        with pytest.raises(NoCertificateError, match=r"weights .*g2\.potential\.bias.*not finite"):
            certify(*arguments)
    huge = InjectiveNormal(brenier_injection(2, 4, hidden_dims=[8]))
    with torch.no_grad():
        huge.injection.g2.potential.raw_out.fill_(3e38)
    with pytest.raises(NoCertificateError, match="beyond floating point"):
        certify(huge)


def test_a_closed_form_guide_refuses_terms_it_does_not_know(normal):
    def add(z, x):
        pyro.factor("f", -50 * z.square().sum(-1))

    AutoInjectiveLaplace(local(normal))(X)
    with pytest.raises(NoCertificateError, match=r"sites \['f'\] of pyro.factor"):
        AutoInjectiveLaplace(local(normal, extra=add))(X)


def test_arguments_stay_checked(normal):
    with pytest.raises(ArgumentError, match="num_samples=1"):
        certify(InjectiveBernoulli(normal.injection), num_samples=1)
