"""InfoVAE."""

import pytest
import torch

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.objectives import MMD
from pyro_idvae.infer.objectives.mmd import mmd
from pyro_idvae.testing import ObjectiveTestCase
from tests.infer.common import data, small
from tests.infer.objectives.common import refuses


class TestMMD(ObjectiveTestCase):
    def make(self):
        return MMD(0.5, 10.0)

    def make_neutral(self):
        return MMD(0.0, 1.0)


def test_discrepancy_of_two_normals():
    # E k(x, y) of N(0, 1) and N(m, 1) with variance h² of the kernel: a Normal integral.
    torch.manual_seed(0)
    draws = [mmd(torch.randn(300, 1), torch.randn(300, 1) + 1.0, 1.0) for _ in range(50)]
    found = torch.stack(draws)
    wanted = 2 / 3**0.5 * (1 - torch.tensor(-1 / 6).exp())
    assert abs(found.mean() - wanted) <= 4 * found.std() / 50**0.5
    none = torch.stack([mmd(torch.randn(50, 2), torch.randn(50, 2)) for _ in range(200)])
    assert abs(none.mean()) <= 4 * none.std() / 200**0.5


def test_a_lone_row_is_refused():
    vae = small()
    with pytest.raises(ArgumentError, match="one row in this batch: MMD compares rows"):
        MMD().loss(vae.model, vae.guide, data(1))


def test_bad_options():
    refuses(MMD, "alpha=1.5: expected a number from 0 to 1", alpha=1.5)
    refuses(MMD, "alpha=-1", alpha=-1)
    refuses(MMD, "raise scale to 0.8 at least", alpha=0.2, scale=0.5)
    refuses(MMD, "bandwidth=0", bandwidth=0)
