"""The β-VAE."""

import pytest
import torch
from pyro.infer import TraceMeanField_ELBO

from pyro_idvae import kl_to_prior
from pyro_idvae.infer.objectives import Beta
from pyro_idvae.testing import ObjectiveTestCase
from pyro_idvae.testing.linear_gaussian import LinearGaussian
from tests.infer.common import data, small
from tests.infer.objectives.common import close, refuses


class TestBeta(ObjectiveTestCase):
    def make(self):
        return Beta(0.4)

    def make_neutral(self):
        return Beta(1.0, elbo=TraceMeanField_ELBO())

    def check_optimum(self):
        # Directions stay whose variance is above βσ²; their posterior variance is βσ² over it.
        for beta in (0.4, 2.0):
            bed = LinearGaussian(variances=(4.0, 1.5, 0.5))
            bed.minimise(Beta(beta, elbo=TraceMeanField_ELBO()))
            close(bed.rates(), bed.best_rates(beta))
            close(bed.scales().square(), (beta / bed.variances).clamp(max=1.0))


def test_the_latents_alone_are_weighted():
    vae, x = small(), data()
    losses = {}
    for beta in (0.0, 0.5, 1.0):
        torch.manual_seed(0)
        losses[beta] = Beta(beta, elbo=TraceMeanField_ELBO()).loss(vae.model, vae.guide, x)
    kl = kl_to_prior(vae.model, vae.guide, x).sum().item()
    assert losses[1.0] - losses[0.5] == pytest.approx(0.5 * kl, rel=1e-4)
    assert losses[0.5] - losses[0.0] == pytest.approx(0.5 * kl, rel=1e-4)


def test_bad_options():
    refuses(Beta, "beta=-1.0: expected a finite number of at least 0", beta=-1.0)
    refuses(Beta, "elbo=.*expected an instance of a Pyro ELBO", elbo=TraceMeanField_ELBO)
    refuses(Beta, "elbo=3: expected an instance", elbo=3)
