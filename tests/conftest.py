import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def fresh():
    """Each test starts from an empty parameter store, a fixed seed and one thread."""
    torch.set_num_threads(1)
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    pyro.clear_param_store()
