"""Names of Pyro and torch that may move: used in one file, and each one still where it was.

A failure here after an upgrade names the function of ``pyro_idvae/_upstream`` to mend.
"""

import re
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import HMC, MCMC, NUTS, Trace_ELBO, TraceGraph_ELBO
from pyro.infer.autoguide import AutoNormal

from pyro_idvae import _upstream

PACKAGE = Path(__file__).parent.parent / "pyro_idvae"
FORBIDDEN = [
    r"\._sample_r\b",
    r"\._kinetic_energy\b",
    r"\._potential_energy_last\b",
    r"\._mean_accept_prob\b",
    r"\._divergences\b",
    r"\bmass_matrix_adapter\b",
    r"\binverse_mass_matrix\b",
    r"\._params\b",
    r"\b_pyro_(sample|param|post_param|post_sample)\b",
    r"\b_Subsample\b",
    r"_unobserved\b",
    r"_unconstrained\b",
    r"\b_deterministic\b",
    r"\bfull_size\b",
    r"\boptim_objs\b",
    r"\b_dirichlet\b",
    r"\bdata_ptr\b",
    r"(?<!pyro_idvae)\._version\b",
    r"\bproxy_tensor\b",
    r"\bmake_fx\b",
    r"torch\._",
    r"\b_foreach_",
    r"\b_validate_args\b",
    r"\b_get_checked_instance\b",
    r"\bunscaled_log_prob\b",
    r"\b_enumerate_(dim|symbol)\b",
    r"\b_pyro_dims\b",
    r"\bpoutine\.messenger\b",
    r"\btorch\.nn\.modules\b",
    r"\bpyro\.ops\b",
    r"\bpyro\.util\b",
    r"\._get_trace\b",
]
# An argument of ours has the name that Pyro's frames have for it.
OURS = {r"\bfull_size\b": {"infer/fit/trainer.py", "infer/fit/fit.py"}}
FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if p.parent.name != "_upstream"]


@pytest.mark.parametrize("name", FORBIDDEN)
def test_private_names_stand_in_one_file(name):
    found = [
        str(path.relative_to(PACKAGE))
        for path in FILES
        if re.search(name, path.read_text())
        and path.relative_to(PACKAGE).as_posix() not in OURS.get(name, ())
    ]
    assert not found, f"{name} belongs into _upstream"


def moved(function, what):
    """Fail with what to do."""
    return f"_upstream.{function} relies on {what}: see what stands in for it in this version"


def model(x):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.deterministic("twice", 2 * z)
        pyro.sample("x", dist.Normal(z, scale), obs=x)


X = torch.tensor([0.5, -1.0, 3.0])


def test_handlers_are_called():
    seen = []
    handler = _upstream.Handler(
        sample=lambda msg: seen.append(msg["name"]),
        param=lambda msg: seen.append(_upstream.given_parameter(msg)),
        post_param=lambda msg: seen.append("after"),
    )
    value = torch.ones(())
    with handler:
        pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.param("p", value)
    assert seen == ["z", value, "after"], moved("Handler", "the methods of Messenger")


def test_sites_are_told_apart():
    def subsampled(x):
        with pyro.plate("rows", 10, subsample_size=4):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    trace = poutine.trace(subsampled).get_trace(X)
    assert _upstream.is_subsampling(trace.nodes["rows"]), moved("is_subsampling", "_Subsample")
    (frame,) = trace.nodes["z"]["cond_indep_stack"]
    assert _upstream.subsampled_from(frame) == 10, moved("subsampled_from", "full_size")
    assert _upstream.declared_size(frame) == 4, moved("declared_size", "full_size")
    trace = poutine.trace(model).get_trace(X)
    assert _upstream.subsampled_from(trace.nodes["z"]["cond_indep_stack"][0]) is None
    assert _upstream.is_deterministic(trace.nodes["twice"]), moved("is_deterministic", "infer")
    assert not _upstream.is_deterministic(trace.nodes["x"])

    def masked(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=x, obs_mask=x > 0)

    trace = poutine.trace(masked).get_trace(X)
    left = [name for name in trace.nodes if _upstream.is_left_by_obs_mask(name, trace)]
    assert left == ["y_unobserved"], moved("is_left_by_obs_mask", "the names obs_mask gives")
    guide = AutoNormal(model)
    trace = poutine.trace(guide).get_trace(X)
    helper = _upstream.unconstrained_site(trace, "z")
    assert helper is not None, moved("unconstrained_site", "the names autoguides give")
    assert _upstream.is_auxiliary(helper), moved("is_auxiliary", "infer['is_auxiliary']")


def test_log_densities_are_masked_and_not_scaled():
    def weighted(x):
        with pyro.plate("data", len(x)), poutine.scale(scale=3.0), poutine.mask(mask=x > 0):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    trace = poutine.trace(weighted).get_trace(X)
    trace.compute_log_prob()
    found = _upstream.site_log_prob(trace.nodes["x"])
    wanted = dist.Normal(0.0, 1.0).log_prob(X) * (X > 0)
    torch.testing.assert_close(found, wanted, msg=moved("site_log_prob", "unscaled_log_prob"))


def test_enumerated_sites_are_summed_out_in_their_plates():
    p, means = torch.tensor([0.2, 0.8]), torch.tensor([-1.0, 2.0])

    def mixture(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(p), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(means[k], 1.0), obs=x)

    trace = poutine.trace(poutine.enum(mixture, first_available_dim=-2)).get_trace(X)
    trace.compute_log_prob()
    factors = _upstream.Factors(trace)
    joint = p.log() + dist.Normal(means, 1.0).log_prob(X[:, None])
    what = moved("Factors", "packed tensors and pyro.ops.contract")
    assert factors.depends_on("x", ["k"]), what
    torch.testing.assert_close(factors.total(["k", "x"], "data"), joint.logsumexp(-1), msg=what)
    torch.testing.assert_close(factors.total(["k", "x"], None), joint.logsumexp(-1).sum(), msg=what)
    found = factors.probabilities("k", ["k", "x"])
    torch.testing.assert_close(found, joint.softmax(-1), msg=what)


def test_what_an_optimiser_has_stepped():
    parameter = torch.ones(2, requires_grad=True)
    parameter.sum().backward()
    optimizer = pyro.optim.Adam({"lr": 0.1})
    optimizer([parameter])
    ((found, own),) = _upstream.optimizers_of(optimizer).items()
    assert found is parameter, moved("optimizers_of", "optim_objs")
    assert isinstance(own, torch.optim.Adam), moved("optimizers_of", "optim_objs")


def test_states_that_wait_for_their_parameters():
    optimizer = pyro.optim.Adam({"lr": 0.1})
    optimizer.set_state({"a": {"state": {}}})
    what = moved("waiting_states", "_state_waiting_to_be_consumed")
    assert _upstream.waiting_states(optimizer) == {"a": {"state": {}}}, what


def test_an_elbo_finds_how_deeply_plates_nest():
    def model(x):
        with pyro.plate("outer", 2, dim=-2), pyro.plate("inner", 3, dim=-1):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    elbo = Trace_ELBO()
    _upstream.guess_plate_nesting(elbo, model, lambda x: None, (torch.zeros(2, 3),), {})
    what = moved("guess_plate_nesting", "_guess_max_plate_nesting")
    assert elbo.max_plate_nesting == 2, what


def test_runs_are_made_and_checked_as_elbos_do():
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("scale", dist.LogNormal(0.0, 1.0))

    traces = _upstream.trace_of(Trace_ELBO(), model, guide, (X,), {})
    assert all("z" in trace.nodes for trace in traces), moved("trace_of", "ELBO._get_trace")
    _upstream.check_traces(*traces, 1)
    with pytest.raises(ValueError, match="plate stack overflow"):  # pyro.util.check_site_shape
        _upstream.check_traces(*traces, 0)


def test_running_means_in_the_store_are_told_from_parameters():
    def model():
        pyro.sample("x", dist.Normal(pyro.sample("k", dist.Bernoulli(0.5)), 1.0), obs=X[0])

    def guide():
        p = pyro.param("p", torch.tensor(0.3))
        pyro.sample("k", dist.Bernoulli(p), infer={"baseline": {"use_decaying_avg_baseline": True}})

    TraceGraph_ELBO().loss_and_grads(model, guide)
    names = [name for name in pyro.get_param_store() if _upstream.is_baseline(name)]
    assert len(names) == 1, moved("is_baseline", "the names that TraceGraph_ELBO gives")
    assert "p" not in names


def test_tensors_are_copied_divided_and_versioned():
    targets = [torch.zeros(2), torch.zeros(3)]
    _upstream.copy_all(targets, [torch.ones(2), torch.ones(3)])
    _upstream.divide_all(targets, 4.0)
    assert all((t == 0.25).all() for t in targets), moved("copy_all", "torch._foreach_copy_")
    before = _upstream.version_of(targets[0])
    targets[0].add_(1.0)
    assert _upstream.version_of(targets[0]) != before, moved("version_of", "_version")


def test_distributions_say_what_they_are_made_of():
    loc = torch.zeros(3)
    same, other = dist.Normal(loc, torch.ones(3)), dist.Normal(loc, torch.ones(3))
    first, second = map(_upstream.tensor_addresses, (same, other))
    assert first["loc"] == second["loc"], moved("tensor_addresses", "data_ptr")
    beta = dist.Beta(torch.ones(2), torch.ones(2))
    assert _upstream.tensor_addresses(beta), moved("tensor_addresses", "Beta._dirichlet")
    checked = dist.Normal(0.0, 1.0, validate_args=True)
    assert _upstream.validates(checked), moved("validates", "_validate_args")
    _upstream.set_validation(checked, False)
    assert not _upstream.validates(checked)
    fresh = _upstream.checked_instance(checked, dist.Normal, None)
    assert isinstance(fresh, dist.Normal), moved("checked_instance", "_get_checked_instance")


def test_functions_are_recorded_and_traces_seen():
    graph = _upstream.record(lambda x: (x.sin() * 2).sum(), torch.ones(3))
    assert graph(torch.zeros(3)) == 0, moved("record", "torch.fx.experimental.proxy_tensor")


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU])
def test_gradients_through_recurrent_networks_are_recorded(kind):
    torch.manual_seed(0)
    network = kind(2, 3, batch_first=True)

    def gradient(x):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(network(leaf)[0].square().sum(), leaf)[0]

    x = torch.randn(4, 5, 2)
    graph = _upstream.record(gradient, torch.randn(4, 5, 2))
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            torch.testing.assert_close(graph(x), gradient(x), msg=moved("record", "oneDNN"))
    seen = []
    torch.vmap(lambda x: seen.append(_upstream.is_traced(x)) or x)(torch.ones(2, 2))
    assert seen == [True], moved("is_traced", "torch._C._functorch")
    assert not _upstream.is_traced(torch.ones(2))
    calls = []
    handle = _upstream.on_module_call(lambda module, args, output: calls.append(module))
    linear = torch.nn.Linear(2, 2)
    linear(torch.ones(2))
    handle.remove()
    linear(torch.ones(2))
    assert calls == [linear], moved("on_module_call", "register_module_forward_hook")


@pytest.mark.parametrize("kind", [HMC, NUTS])
def test_kernels_show_their_energy_acceptance_and_metric(kind):
    kernel = kind(model)
    energies = []
    setup = kernel.setup
    covariance = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def listening(*args, **kwargs):
        setup(*args, **kwargs)
        _upstream.on_trajectory(kernel, energies.append)
        _upstream.set_metric(kernel, covariance)

    seen = []

    def note(kernel, samples, stage, i):
        (metric,) = kernel.inverse_mass_matrix.values()
        seen.append((_upstream.mean_acceptance(kernel), _upstream.divergent_draws(kernel), metric))

    kernel.setup = listening
    MCMC(kernel, 10, 0, disable_progbar=True, hook_fn=note).run(X)
    what = moved("on_trajectory", "HMC._sample_r and _kinetic_energy")
    assert len(energies) == 10, what
    assert torch.tensor(energies).isfinite().all(), what
    acceptance, divergent, metric = seen[-1]
    assert 0 < acceptance <= 1, moved("mean_acceptance", "_mean_accept_prob")
    assert all(0 <= i < 10 for i in divergent), moved("divergent_draws", "_divergences")
    torch.testing.assert_close(
        metric, covariance.diagonal(), msg=moved("set_metric", "mass_matrix_adapter")
    )
