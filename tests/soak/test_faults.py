"""Data that go bad in the middle of a fit: what was reached by then is kept."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from pyro_idvae import fit
from pyro_idvae.errors import NonFiniteLossError
from tests.infer.common import small


class FailsLater(Dataset):
    """Rows that are good for some epochs, and then one is not."""

    def __init__(self, epochs, fail):
        self.good, self.fail, self.reads = epochs * 40, fail, 0
        self.x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        self.reads += 1
        # The first batch is read once more, to check it.
        return self.fail() if self.reads > self.good + 35 else self.x[index]


def loader(epochs, fail):
    return DataLoader(FailsLater(epochs, fail), batch_size=10)


def test_a_batch_that_is_no_number_after_many_keeps_the_last_finite_parameters():
    vae = small()
    with pytest.raises(
        NonFiniteLossError, match="the batch has entries that are not fin"
    ) as caught:
        fit(
            vae.model,
            vae.guide,
            loader(6, lambda: torch.full((4,), math.nan)),
            num_epochs=50,
            progress=False,
        )
    assert 20 < caught.value.step < 30
    assert 5 <= len(caught.value.result.losses) <= 6
    assert all(map(math.isfinite, caught.value.result.losses))
    kept = [parameter.detach().clone() for parameter in vae.parameters()]
    assert all(bool(parameter.isfinite().all()) for parameter in kept)
    again = fit(vae.model, vae.guide, torch.randn(40, 4), num_epochs=2, progress=False)
    assert all(map(math.isfinite, again.losses))


def test_what_a_loader_raises_passes_through_and_the_parameters_stay():
    vae = small()

    def gone():
        raise OSError("the disk is gone")

    before = [parameter.detach().clone() for parameter in vae.parameters()]
    with pytest.raises(OSError, match="the disk is gone"):
        fit(vae.model, vae.guide, loader(6, gone), num_epochs=50, progress=False)
    assert all(bool(parameter.isfinite().all()) for parameter in vae.parameters())
    assert not all(map(torch.equal, before, vae.parameters()))
    assert not any(p.grad is not None and p.grad.isnan().any() for p in vae.parameters())
    again = fit(vae.model, vae.guide, torch.randn(40, 4), num_epochs=2, progress=False)
    assert all(map(math.isfinite, again.losses))
