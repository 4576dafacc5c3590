# SPDX-License-Identifier: Apache-2.0
"""Whether runs of other seeds find the same latents, up to a class of maps."""

from pyro_idvae.diagnostics.consistency.consistency import consistency
from pyro_idvae.diagnostics.consistency.report import Consistency

__all__ = ["Consistency", "consistency"]
