"""What holds for all tests, the examples in docstrings among them."""

import signal
import sys

import pyro
import pytest
import torch

# Jobs that a shell puts in the background ignore Ctrl-C, and so would the tests of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def fresh():
    """Start each test from an empty parameter store, a fixed seed, one thread and no figures."""
    torch.set_num_threads(1)
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    pyro.clear_param_store()
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
