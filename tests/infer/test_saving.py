"""Weights in files: what comes back, and what is refused."""

import errno
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from pyro_idvae import IDVAE, fit, from_guide, load, save
from pyro_idvae.errors import ArgumentError, CheckpointError


def small(seed, width=8):
    torch.manual_seed(seed)
    return IDVAE(4, 2, "normal", hidden_dims=[width], encoder_hidden_dims=[8], learn_scale=True)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_a_fitted_pair_comes_back(tmp_path):
    x = torch.randn(20, 4)
    vae, other = small(0), small(1)
    fit(vae.model, vae.guide, x, num_epochs=2, progress=False)
    path = save(tmp_path / "vae.pt", vae.model, vae.guide)
    assert [p.name for p in tmp_path.iterdir()] == ["vae.pt"]
    load(path, other.model, other.guide)
    assert same(vae, other)
    assert other.model(x).shape == (20, 2)
    assert same(vae, other)


def test_functions_and_autoguides_come_back(tmp_path):
    x = torch.randn(50) + 2

    def model(x):
        scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, scale), obs=x)

    guide = AutoNormal(model)
    fit(model, guide, x, num_epochs=30, progress=False)
    scale = pyro.param("scale").item()
    pyro.param("of another program", torch.tensor(1.0))
    with pytest.raises(ArgumentError, match="model is a plain function"):
        save(tmp_path / "fit.pt", model, guide)
    path = save(tmp_path / "fit.pt", model, guide, data=x)
    pyro.clear_param_store()
    fresh = AutoNormal(model)
    with pytest.raises(CheckpointError, match="pass data="):
        load(path, model, fresh)
    load(path, model, fresh, data=x)
    assert pyro.param("scale").item() == pytest.approx(scale)
    assert same(guide, fresh)
    from_guide(model, fresh, x, num_samples=3)
    assert pyro.param("scale").item() == pytest.approx(scale)


def test_what_does_not_fit_changes_nothing(tmp_path):
    vae, wider = small(0), small(1, width=9)
    path = save(tmp_path / "vae.pt", vae.model, vae.guide)
    before = [p.detach().clone() for p in wider.parameters()]
    with pytest.raises(
        CheckpointError, match="shapes, dtypes or layouts in the file and in the pair differ"
    ):
        load(path, wider.model, wider.guide)
    assert all(torch.equal(a, b) for a, b in zip(before, wider.parameters(), strict=True))
    alone = save(tmp_path / "model.pt", vae.model)
    with pytest.raises(CheckpointError, match="holds no guide"):
        load(alone, vae.model, vae.guide)


def test_parameters_of_functions_must_fit(tmp_path):
    def make(size):
        return lambda x: pyro.param("a", torch.zeros(size))

    x = torch.zeros(1)
    path = save(tmp_path / "a.pt", make(3), data=x)
    pyro.clear_param_store()
    with pytest.raises(
        CheckpointError, match=r"differ: \{'param\.a': \('\(3,\) float32', '\(2,\) float32'\)\}"
    ):
        load(path, make(2), data=x)
    assert pyro.param("a").shape == (2,)


def test_loading_keeps_the_optimisers_tensors(tmp_path):
    def model(x):
        mean = pyro.param("mean", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    x = torch.ones(5)
    result = fit(model, lambda x: None, x, num_epochs=3, progress=False)
    path = save(tmp_path / "m.pt", model, data=x)
    load(path, model, data=x)
    before = pyro.param("mean").item()
    fit(model, lambda x: None, x, num_epochs=3, resume=result, progress=False)
    assert pyro.param("mean").item() > before


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


def test_no_code_is_run(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"format": 1, "model": Evil()}, path)
    with pytest.raises(CheckpointError, match="not a file written by"):
        load(path, small(0).model)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a file"):
        load(path, small(0).model)
    torch.save({"weights": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"written by pyro_idvae\.save"):
        load(path, small(0).model)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save(tmp_path / "vae.pt", small(0).model)
    old = path.read_bytes()

    def broken(part, content):
        with part.open("wb") as file:
            file.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(
        CheckpointError, match=r"vae\.pt cannot be written \(No space left on device\)"
    ):
        save(path, small(1).model)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["vae.pt"]


class Tutorial(torch.nn.Module):
    """A VAE in the style of Pyro's tutorial: methods as model and guide."""

    def __init__(self):
        super().__init__()
        self.decoder, self.encoder = torch.nn.Linear(2, 4), torch.nn.Linear(4, 2)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).expand([len(x), 2]).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), 1.0).to_event(1))


def test_methods_and_registered_modules_come_back(tmp_path):
    x = torch.randn(20, 4)
    first, second = Tutorial(), Tutorial()
    fit(first.model, first.guide, x, num_epochs=2, batch_size=5, progress=False)
    path = save(tmp_path / "t.pt", first.model, first.guide, data=x)
    load(path, second.model, second.guide, data=x)
    assert same(first, second)
