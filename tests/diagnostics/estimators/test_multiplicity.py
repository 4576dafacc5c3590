import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from pyro_idvae.diagnostics.estimators import holm


@pytest.mark.parametrize("size", [1, 2, 7, 200])
def test_holm_is_statsmodels(size):
    p = np.random.default_rng(size).beta(0.3, 1.0, size=size)
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)
