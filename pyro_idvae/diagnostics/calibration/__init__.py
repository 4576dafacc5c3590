# SPDX-License-Identifier: Apache-2.0
"""Simulation-based calibration: are the draws of a kernel or a guide the model's posterior?"""

from pyro_idvae.diagnostics.calibration.calibrate import calibrate
from pyro_idvae.diagnostics.calibration.report import Calibration

__all__ = ["Calibration", "calibrate"]
