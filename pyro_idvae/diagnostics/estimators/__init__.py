# SPDX-License-Identifier: Apache-2.0
"""Estimators on plain arrays of draws: numpy and scipy, no ArviZ, no torch."""

from pyro_idvae._chains import (
    LEAST_PER_CHAIN,
    effective_sample_size,
    split_rhat,
)
from pyro_idvae.diagnostics.estimators.divergence import (
    LEAST_DRAWS,
    check_simplex,
    fitted_log_ratio,
    kl_from_labels,
    kl_to_normal,
)
from pyro_idvae.diagnostics.estimators.kl_estimate import KLEstimate
from pyro_idvae.diagnostics.estimators.multiplicity import holm
from pyro_idvae.diagnostics.estimators.ranks import normal_scores

__all__ = [
    "LEAST_DRAWS",
    "LEAST_PER_CHAIN",
    "KLEstimate",
    "check_simplex",
    "effective_sample_size",
    "fitted_log_ratio",
    "holm",
    "kl_from_labels",
    "kl_to_normal",
    "normal_scores",
    "split_rhat",
]
