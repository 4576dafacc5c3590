# SPDX-License-Identifier: Apache-2.0
"""log p(x) of each data point, between two bounds, and what inference loses of it."""

from pyro_idvae.diagnostics.evidence.estimate import Evidence
from pyro_idvae.diagnostics.evidence.log_evidence import log_evidence

__all__ = ["Evidence", "log_evidence"]
