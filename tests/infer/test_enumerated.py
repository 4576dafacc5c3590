"""Sites that are marked to be summed out, and objectives that only draw."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    JitTrace_ELBO,
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
)
from pyro.infer.tracetmc_elbo import TraceTMC_ELBO

from pyro_idvae.errors import ArgumentError
from pyro_idvae.infer.enumerated import check_enumeration

X = torch.zeros(3)


def marked(x, mark="parallel"):
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Bernoulli(0.5), infer={"enumerate": mark} if mark else {})
        pyro.sample("x", dist.Normal(y, 1.0), obs=x)


def guide(x):
    pass


def trace(program, *args):
    return poutine.trace(program).get_trace(X, *args)


DRAWING = [
    None,
    Trace_ELBO(),
    TraceGraph_ELBO(),
    TraceMeanField_ELBO(),
    RenyiELBO(),
    JitTrace_ELBO(),
]
SUMMING = [TraceEnum_ELBO(), TraceTMC_ELBO()]


@pytest.mark.parametrize("elbo", DRAWING, ids=lambda elbo: type(elbo).__name__)
@pytest.mark.parametrize("mark", ["parallel", "sequential"])
def test_an_objective_that_draws_is_refused(elbo, mark):
    with pytest.raises(ArgumentError, match=r"\['y'\] are marked .*: pass elbo=TraceEnum_ELBO\(\)"):
        check_enumeration(elbo, trace(marked, mark), trace(guide))
    check_enumeration(elbo, trace(marked, None), trace(guide))


@pytest.mark.parametrize("elbo", SUMMING, ids=lambda elbo: type(elbo).__name__)
def test_an_objective_that_sums_passes(elbo):
    check_enumeration(elbo, trace(marked), trace(guide))
    check_enumeration(elbo, trace(guide), trace(marked))


def test_marks_in_the_guide_and_by_config_enumerate_count():
    def drawn(x):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})

    with pytest.raises(ArgumentError, match=r"elbo=Trace_ELBO \(the default\) draws them"):
        check_enumeration(None, trace(marked, None), trace(drawn))
    everything = config_enumerate(marked, "parallel")
    with pytest.raises(ArgumentError, match=r"\['y'\]"):
        check_enumeration(Trace_ELBO(), trace(everything, None))


def test_an_objective_of_ones_own_is_trusted():
    class Own:
        pass

    check_enumeration(Own(), trace(marked), trace(guide))
