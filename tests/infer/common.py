"""What the tests of fit share."""

from functools import partial

import torch
from torch.utils.data import Dataset

from pyro_idvae import IDVAE

ADAM = partial(torch.optim.Adam, lr=0.02)


def small(seed=0, **options):
    torch.manual_seed(seed)
    return IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8], **options)


def data(rows=60):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(rows, 4, generator=generator) * torch.tensor([3.0, 2.0, 1.0, 0.5])


class Rows(Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index]
