"""What likelihoods of token sequences refuse, and how they say it."""

import pytest
import torch

from pyro_idvae.distributions import InjectiveAutoregressive
from pyro_idvae.errors import ArgumentError, DataError, NotInjectiveError, ShapeError
from pyro_idvae.models import RecurrentHistory
from pyro_idvae.transforms import conditional_injection
from tests.distributions.test_autoregressive import injective


@pytest.mark.parametrize(
    ("wrong", "error", "named"),
    [
        (
            lambda: injective().condition(torch.zeros(3, 3).double(), num_tokens=4),
            ShapeError,
            "z has shape",
        ),
        (
            lambda: injective().condition(torch.zeros(3, 2).double(), num_tokens=0),
            ArgumentError,
            "num_tokens=0",
        ),
        (
            lambda: injective().condition(
                torch.zeros(3, 2).double(), num_tokens=4, lengths=torch.tensor([5, 1, 1])
            ),
            DataError,
            "from 0 to 4",
        ),
        (
            lambda: injective().condition(
                torch.zeros(3, 2).double(), num_tokens=4, lengths=torch.ones(2).long()
            ),
            ShapeError,
            "lengths has shape",
        ),
        (
            lambda: injective().condition(
                torch.zeros(3, 2).double(), num_tokens=4, lengths=torch.ones(3)
            ),
            ArgumentError,
            "whole numbers",
        ),
        (
            lambda: injective(end_token=0).condition(
                torch.zeros(3, 2).double(), num_tokens=4, lengths=torch.ones(3).long()
            ),
            ArgumentError,
            "end_token=0",
        ),
        (lambda: injective(end_token=4), ArgumentError, "end_token=4"),
        (lambda: injective("rnn"), ArgumentError, "history='rnn'"),
        (lambda: injective(vocabulary=2), NotInjectiveError, "latent_dim=2"),
        (lambda: injective(wanted_nats=0.1), ArgumentError, "wanted_nats"),
        (lambda: injective().generate(torch.zeros(1, 2), 3, temperature=-1.0), ArgumentError, "-1"),
        (lambda: injective().generate(torch.zeros(1, 2), 3, top_k=0), ArgumentError, "top_k=0"),
        (
            lambda: InjectiveAutoregressive(
                RecurrentHistory(9, 8), conditional_injection(2, 5, context_dim=8)
            ),
            ShapeError,
            "vocabulary_size=9",
        ),
        (
            lambda: InjectiveAutoregressive(
                RecurrentHistory(6, 8), conditional_injection(2, 5, context_dim=4)
            ),
            ShapeError,
            "context_dim=8",
        ),
        (
            lambda: InjectiveAutoregressive(
                RecurrentHistory(6, 8),
                conditional_injection(2, 5, context_dim=8, shift=torch.nn.Linear(8, 5)),
            ),
            ArgumentError,
            "shift of its own",
        ),
        (lambda: injective().check_data(torch.tensor([[0, 4]])), DataError, r"tokens\[0, 1\]=4"),
        (lambda: injective().check_data(torch.tensor([[0, -1]])), DataError, r"=-1"),
        (lambda: injective().check_data(torch.zeros(0, 3).long()), DataError, "no tokens"),
    ],
)
def test_wrong_arguments_are_named(wrong, error, named):
    with pytest.raises(error, match=named):
        wrong()
