# SPDX-License-Identifier: Apache-2.0
"""Who lost the information."""

from pyro_idvae.diagnostics.autopsy.gap import InferenceGap
from pyro_idvae.diagnostics.autopsy.report import Autopsy, autopsy

__all__ = ["Autopsy", "InferenceGap", "autopsy"]
