"""Ctrl-C: what is kept of it, and that nothing else is changed by it."""

import _thread
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_idvae as idvae
from pyro_idvae.arviz_io import groups_of, save_netcdf
from pyro_idvae.infer.interrupts import common
from pyro_idvae.infer.rowwise.chains import Chains

X = torch.tensor([[0.5, -1.0, 3.0, 0.0], [1.0, 0.0, -0.5, 2.0], [0.1, 0.2, 0.3, 0.4]])
OPTIONS = {"num_samples": 12, "warmup_steps": 8, "num_chains": 3, "seed": 4, "progress": False}
# One chain, as two that are so short disagree and are weighed, which takes longer than the rest.
FEW = {
    "num_samples": 20,
    "num_chains": 1,
    "num_steps": 2,
    "mcmc_options": {"warmup_steps": 30},
    "seed": 0,
}
SHORT = {
    "nuts": {"max_tree_depth": 3},
    "hmc": {"step_size": 0.25, "trajectory_length": 0.5, "adapt_step_size": False},
    "vectorized": {},
}


class Calls:
    """Counts the calls of modules, and presses Ctrl-C in some of them."""

    def __init__(self, *modules, at=()):
        self.count, self.at = 0, set(at)
        self.handles = [module.register_forward_pre_hook(self) for module in modules]

    def __call__(self, *_):
        self.count += 1
        if self.count in self.at:
            signal.raise_signal(signal.SIGINT)

    def __deepcopy__(self, _):
        return self  # a copy of a module is counted with it

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def pair():
    pyro.clear_param_store()
    torch.manual_seed(0)
    vae = idvae.IDVAE(4, 2, "normal", hidden_dims=[8], encoder_hidden_dims=[8])
    vae.model.train()
    vae.guide.eval()
    next(vae.model.parameters()).requires_grad_(False)
    pyro.param("of_another", torch.ones(2))
    return vae


def state_of(*programs):
    store = pyro.get_param_store()
    return {
        "modes": [part.training for p in programs for part in p.modules()],
        "flags": [q.requires_grad for p in programs for q in p.parameters()],
        "weights": [q.detach().clone().tolist() for p in programs for q in p.parameters()],
        "gradients": [q.grad for p in programs for q in p.parameters()],
        "store": {name: id(value) for name, value in store.named_parameters()},
        "handler": signal.getsignal(signal.SIGINT),
        "handlers": list(pyro.poutine.runtime._PYRO_STACK),
        "validation": [
            part.is_validation_enabled() for part in (pyro.distributions, pyro.infer, pyro.poutine)
        ],
    }


def moments(total, number):
    return sorted({1, *np.linspace(2, total, number).round().astype(int).tolist()})


def is_beginning(part, whole):
    for name, values in part.items():
        own = whole[name].values[: values.shape[0], : values.shape[1]]
        np.testing.assert_allclose(values, own, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["nuts", "hmc"])
def test_chains_keep_their_draws_whenever_they_are_interrupted(kernel):
    vae = pair()
    options = {**OPTIONS, "num_samples": 7, "kernel": kernel, "kernel_options": SHORT[kernel]}
    with Calls(vae.model) as calls:
        whole = groups_of(idvae.mcmc(vae.model, X, **options))
    assert whole["posterior"].attrs["complete"] == 1
    outcomes = []
    # The last calls are those of the densities, prior draws and limits.
    late = [calls.count - back for back in (0, 2, 5)]
    for moment in [*moments(calls.count, 4), *late]:
        vae = pair()
        before = state_of(vae.model, vae.guide)
        with Calls(vae.model, at=[moment]):
            try:
                with pytest.warns(UserWarning, match="interrupted") as caught:
                    found = groups_of(idvae.mcmc(vae.model, X, **options))
            except KeyboardInterrupt:
                outcomes.append("nothing")
                assert state_of(vae.model, vae.guide) == before
                continue
        after = state_of(vae.model, vae.guide)
        assert {**after, "store": 0} == {**before, "store": 0}
        assert after["store"]["of_another"] == before["store"]["of_another"]
        chains, draws = found["posterior"]["latent"].shape[:2]
        complete = found["posterior"].attrs["complete"]
        assert complete == int((chains, draws) == (3, 7))
        outcomes.append("complete" if complete else "part")
        assert [w.filename for w in caught] == [__file__]
        said = str(caught[0].message)
        assert f"interrupted: {chains} of 3 chains, {draws} of 7 draws" in said
        assert "without limits of the marginals" in said
        for group in ("posterior", "log_likelihood", "log_prior"):
            is_beginning(found[group], whole[group])
        names = ["energy", "step_size", "acceptance_rate", "diverging"]
        is_beginning(found["sample_stats"][names], whole["sample_stats"])
        assert found["prior"]["latent"].shape[1] == draws
        assert not any("limit" in name for name in found["sample_stats"])
    assert set(outcomes) == {"nothing", "part", "complete"}


@pytest.mark.parametrize("moment", [5, 9, 15])
def test_vectorised_chains_keep_their_draws(monkeypatch, moment):
    vae = pair()
    options = {**OPTIONS, "kernel": "vectorized"}
    whole = groups_of(idvae.mcmc(vae.model, X, **options))
    advance, count = Chains.advance, [0]

    def interrupted(self):
        count[0] += 1
        if count[0] == moment:
            signal.raise_signal(signal.SIGINT)
        return advance(self)

    monkeypatch.setattr(Chains, "advance", interrupted)
    before = state_of(vae.model, vae.guide)
    if moment <= 9:  # in warm-up, or in the first draw
        with pytest.raises(KeyboardInterrupt):
            idvae.mcmc(vae.model, X, **options)
    else:
        with pytest.warns(UserWarning, match=f"3 of 3 chains, {moment - 9} of 12 draws"):
            found = groups_of(idvae.mcmc(vae.model, X, **options))
        assert found["posterior"].attrs["complete"] == 0
        is_beginning(found["posterior"], whole["posterior"])
        is_beginning(found["log_likelihood"], whole["log_likelihood"])
    assert state_of(vae.model, vae.guide) == before


def test_a_second_interrupt_is_raised():
    vae = pair()
    with Calls(vae.model) as calls:
        idvae.mcmc(vae.model, X, kernel_options=SHORT["nuts"], **OPTIONS)
    middle = calls.count // 2
    before = state_of(vae.model, vae.guide)
    with (
        Calls(vae.model, at=[middle, middle + 2]),
        pytest.raises(KeyboardInterrupt),
    ):
        idvae.mcmc(vae.model, X, kernel_options=SHORT["nuts"], **OPTIONS)
    assert state_of(vae.model, vae.guide) == before


def test_what_an_interrupt_leaves_can_be_stored_read_and_completed(tmp_path):
    vae = pair()
    options = {**OPTIONS, "kernel_options": SHORT["nuts"], "num_samples": 40}
    with Calls(vae.model) as calls:
        idvae.mcmc(vae.model, X, **options)
    with Calls(vae.model, at=[calls.count // 2]), pytest.warns(UserWarning, match="interrupted"):
        found = idvae.mcmc(vae.model, X, **options)
    report = idvae.collapse_report(found)
    assert not report.complete
    assert "The draws are incomplete" in str(report)
    assert "The draws are incomplete" in report._repr_html_()
    save_netcdf(found, tmp_path / "draws.nc")
    stored = arviz.from_netcdf(str(tmp_path / "draws.nc"))
    assert not idvae.collapse_report(stored).complete
    values = {"latent": torch.tensor(groups_of(found)["posterior"]["latent"].values)}
    again = idvae.from_mcmc(values, vae.model, X)
    assert "limit_mean_latent" in groups_of(again)["sample_stats"]


def test_an_interrupt_takes_what_is_wanted_besides(monkeypatch):
    vae = pair()
    from pyro_idvae.infer import arviz

    def pressed(*_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(arviz, "predictive", pressed)
    options = {**OPTIONS, "kernel": "vectorized", "posterior_predictive": True}
    with pytest.warns(UserWarning, match="12 of 12 draws, without posterior_predictive"):
        found = groups_of(idvae.mcmc(vae.model, X, **options))
    assert found["posterior"].attrs["complete"] == 1
    assert "limit_mean_latent" in found["sample_stats"]
    assert "posterior_predictive" not in found


def test_chains_are_cut_to_keep_most_draws():
    assert [len(c) for c in common([range(500), range(500), range(3), []])] == [500, 500]
    assert [len(c) for c in common([range(140), range(137), range(150)])] == [137] * 3
    assert [len(c) for c in common([[], range(1)])] == [1]


CALLED = {
    "from_guide": lambda vae: idvae.from_guide(vae.model, vae.guide, X, num_samples=20),
    "from_mcmc": lambda vae: idvae.from_mcmc({"latent": torch.randn(1, 20, 3, 2)}, vae.model, X),
    "importance_log_likelihood": lambda vae: idvae.importance_log_likelihood(
        vae.model, vae.guide, X, num_samples=50
    ),
    "kl_to_prior": lambda vae: idvae.kl_to_prior(vae.model, vae.guide, X),
    "active_units": lambda vae: idvae.active_units(vae.model, vae.guide, X),
    "calibrate": lambda vae: idvae.calibrate(
        vae.model, X, guide=vae.guide, num_replications=10, num_draws=4
    ),
    "certify": lambda vae: idvae.certify(vae.model, X),
    "find_witness": lambda vae: idvae.find_witness(vae.model, X, num_steps=3, num_starts=2),
    "autopsy": lambda vae: idvae.autopsy(vae.model, vae.guide, X, **FEW),
    # With one block of rows there is none that is done before.
    "log_evidence": lambda vae: idvae.log_evidence(
        vae.model, vae.guide, X, num_chains=4, num_temperatures=2, num_elbo_samples=5, seed=0
    ),
    # An interrupt of the annealing is taken: it leaves the rows that are done.
    "evaluate": lambda vae: idvae.evaluate(
        vae.model, vae.guide, X, num_samples=20, leave_out=["evidence"], seed=0
    ),
}


@pytest.mark.parametrize("name", CALLED)
def test_an_interrupt_leaves_all_as_it_was(name):
    vae = pair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Calls(vae.model, vae.guide) as calls:
            CALLED[name](vae)
        for moment in moments(calls.count, 3 if calls.count > 100 else 6):
            vae = pair()
            before = state_of(vae.model, vae.guide)
            with (
                Calls(vae.model, vae.guide, at=[moment]) as again,
                pytest.raises(KeyboardInterrupt),
            ):
                CALLED[name](vae)
            assert again.count == moment
            assert state_of(vae.model, vae.guide) == before


@pytest.mark.parametrize("name", ["from_guide", "autopsy"])
def test_an_interrupt_leaves_the_parameters_of_functions_as_they_were(name):
    calls = [0, None]

    def pressed():
        calls[0] += 1
        if calls[0] == calls[1]:
            signal.raise_signal(signal.SIGINT)

    def model(x):
        pressed()
        scale = pyro.param("scale", torch.tensor(0.5), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), scale), obs=x)

    encoder = torch.nn.Linear(1, 2)

    def guide(x):
        pressed()
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(encoder(x.unsqueeze(-1)), 0.5).to_event(1))

    x = torch.tensor([0.5, -1.0, 2.0])
    run = {
        "from_guide": lambda: idvae.from_guide(model, guide, x, num_samples=20),
        "autopsy": lambda: idvae.autopsy(model, guide, x, **FEW),
    }[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyro.clear_param_store()
        run()
        total = calls[0]
        for number, moment in enumerate(moments(total, 3)):
            pyro.clear_param_store()
            if number % 2:
                pyro.param("scale", torch.tensor(0.7), constraint=dist.constraints.positive)
            calls[:] = [0, moment]
            before = state_of(encoder)
            with pytest.raises(KeyboardInterrupt):
                run()
            assert state_of(encoder) == before


# Inside a destructor or the callback of a weak reference Python drops an interrupt.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["nuts", "vectorized"])
def test_interrupts_at_any_moment_leave_all_as_it_was(kernel):
    options = {**OPTIONS, "kernel": kernel, "kernel_options": SHORT[kernel]}
    vae = pair()
    begin = time.monotonic()
    idvae.mcmc(vae.model, X, **options)
    seconds = time.monotonic() - begin
    before = state_of(vae.model, vae.guide)
    generator = np.random.default_rng(0)
    interrupted = 0
    for _ in range(40):
        timer = threading.Timer(generator.uniform(0, seconds), _thread.interrupt_main)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                timer.start()
                idvae.mcmc(vae.model, X, **options)
                interrupted += any("interrupted" in str(w.message) for w in caught)
                timer.join()
            except KeyboardInterrupt:
                interrupted += 1
        assert state_of(vae.model, vae.guide) == before
    assert interrupted > 20


SCRIPT = """
import pathlib, sys, time, warnings
import torch, pyro, pyro.distributions as dist
import pyro_idvae as idvae
from pyro_idvae.arviz_io import groups_of

count = 0

def model(x):
    global count
    count += 1
    if count > 40:
        pathlib.Path(sys.argv[1], "running").touch()
        time.sleep(0.01)
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)

if __name__ == "__main__":
    warmup = int(sys.argv[2])
    try:
        found = idvae.mcmc(
            model, torch.zeros(3), num_samples=10**6, warmup_steps=warmup, num_chains=2,
            parallel=True, progress=False,
        )
    except KeyboardInterrupt:
        sys.exit("nothing")
    print(found["posterior"]["z"].shape[0], flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("warmup", [2, 10**6])
def test_ctrl_c_ends_all_processes_at_once(tmp_path, warmup):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(warmup)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "running").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2.0)
        begin = time.monotonic()
        # As a terminal does: to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert time.monotonic() - begin < 10
        assert "Traceback" not in err
        if warmup == 2:
            assert process.returncode == 0
            assert int(out) in (1, 2)
            assert err.count("interrupted: ") == 1
        else:
            assert process.returncode == 1
            assert err == "nothing\n"
        deadline = time.monotonic() + 5
        while is_alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not is_alive(process.pid)
    finally:
        if is_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_no_process_outlives_its_parent(tmp_path):
    """Even where the parent is killed while the chains have nothing yet to hand over."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(10**6)], start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "running").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.kill()
        process.wait(timeout=30)
        deadline = time.monotonic() + 20
        while is_alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not is_alive(process.pid)
    finally:
        if is_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
