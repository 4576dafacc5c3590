# SPDX-License-Identifier: Apache-2.0
"""Upper bounds on what the marginal posterior of each latent knows."""

from pyro_idvae.infer.limits.exact import Limits, latent_limits
from pyro_idvae.infer.limits.guide import guide_limits

__all__ = ["Limits", "guide_limits", "latent_limits"]
