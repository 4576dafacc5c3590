"""Blocks of data points: what is drawn for one depends on no other, and on nobody's order."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_idvae as idvae
from pyro_idvae.infer.rowwise.annealing import annealer
from pyro_idvae.infer.rowwise.blocks import ROWS, split_rows
from pyro_idvae.infer.rowwise.stream import Stream
from pyro_idvae.infer.rowwise.vectorized import RowSampler
from pyro_idvae.programs.bound_model import BoundModel

CPU = torch.device("cpu")
OPTIONS = {"kernel": "vectorized", "num_samples": 6, "warmup_steps": 12, "progress": False}


def searched(x):
    """A model whose modes have no closed form."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("latent", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("obs", dist.StudentT(4.0, z.sin(), 0.5).to_event(1), obs=x)


def injective():
    pyro.set_rng_seed(0)
    return idvae.IDVAE(2, 2, "normal", scale=0.3, hidden_dims=[8], encoder_hidden_dims=[8])


def only(number):
    """Return ``split_rows`` that leaves all blocks but one to somebody else."""

    def split(*given):
        return [split_rows(*given)[number]]

    return split


def test_streams_go_on_where_they_were_and_leave_the_generator_alone():
    whole, first, second = Stream(3, 1, CPU), Stream(3, 1, CPU), Stream(3, 2, CPU)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with whole.drawing():
        wanted = torch.randn(4)
    with first.drawing():
        begun = torch.randn(2)
    with second.drawing():
        other = torch.randn(2)
    with first.drawing():
        rest = torch.randn(2)
    assert torch.equal(torch.cat([begun, rest]), wanted)
    assert not torch.equal(other, wanted[:2])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stream_is_put_back_after_an_error():
    stream = Stream(0, 0, CPU)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="scale"), stream.drawing():
        dist.Normal(torch.randn(1), -1.0, validate_args=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("rows", "size", "wanted"),
    [
        (10, 4, [4, 4, 2]),
        (8, 4, [4, 4]),
        (3, 100, [3]),
        (1, None, [1]),
        (ROWS["cpu"], None, [512, 512]),
    ],
)
def test_every_point_counts_once_in_blocks_of_one_size(rows, size, wanted):
    bound = BoundModel(searched, None, ((torch.zeros(rows, 2),), {}))
    blocks = split_rows(bound, 2, size, 0)
    assert [block.kept for block in blocks] == wanted
    assert len({len(block.rows) for block in blocks}) == 1
    kept = torch.cat([block.rows[: block.kept] for block in blocks])
    assert kept.tolist() == list(range(rows))


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("make", [lambda: searched, lambda: injective().model])
def test_draws_of_a_block_are_the_same_bits_without_the_others(make, number):
    model, x = make(), torch.linspace(-1, 1, 20).reshape(10, 2)
    bound = BoundModel(model, None, ((x,), {}))
    options = {"chains": 3, "warmup_steps": 12}
    whole = RowSampler(bound, blocks=split_rows(bound, 3, 4, 5), **options)
    wanted = [whole.advance() for _ in range(15)]
    torch.manual_seed(99)
    alone = RowSampler(bound, blocks=split_rows(bound, 3, 4, 5)[number : number + 1], **options)
    rows = alone.blocks[0].rows[: alone.blocks[0].kept]
    assert alone.captured
    for each in wanted:
        torch.rand(7)
        found = alone.advance()
        kept = found.positions[:, : len(rows)]
        assert torch.equal(kept, each.positions[:, rows])
        for name, values in found.stats.items():
            assert torch.equal(values[:, : len(rows)], each.stats[name][:, rows]), name


@pytest.mark.parametrize("proposal", ["laplace", "prior"])
def test_evidence_of_a_block_is_the_same_bits_without_the_others(monkeypatch, proposal):
    x = torch.linspace(-1, 1, 20).reshape(10, 2)
    options = {"proposal": proposal, "num_chains": 4, "block_size": 4, "seed": 2}
    wanted = idvae.log_evidence(searched, None, x, **options)
    monkeypatch.setattr(annealer, "split_rows", only(1))
    alone = idvae.log_evidence(searched, None, x, **options)
    assert (alone.lower[:4] == wanted.lower[4:8]).all()


def test_a_seed_repeats_the_draws_and_none_takes_the_generator():
    x = torch.linspace(-1, 1, 6).reshape(3, 2)

    def drawn(**options):
        return idvae.mcmc(searched, x, **OPTIONS, **options)["posterior"]["latent"].values

    assert (drawn(seed=1) == drawn(seed=1)).all()
    assert (drawn(seed=1) != drawn(seed=2)).any()
    torch.manual_seed(4)
    first, second = drawn(), drawn()
    torch.manual_seed(4)
    assert (drawn() == first).all()
    assert (first != second).any()
