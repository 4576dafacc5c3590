# SPDX-License-Identifier: Apache-2.0
"""Has the posterior collapsed to the prior?"""

from pyro_idvae.diagnostics.collapse.report import collapse_report, report_on
from pyro_idvae.diagnostics.collapse.table import ChainAgreement, CollapseReport
from pyro_idvae.diagnostics.collapse.verdicts import (
    COLLAPSED,
    INFORMATIVE,
    JOINT,
    UNDECIDED,
    Level,
)

__all__ = [
    "COLLAPSED",
    "INFORMATIVE",
    "JOINT",
    "UNDECIDED",
    "ChainAgreement",
    "CollapseReport",
    "Level",
    "collapse_report",
    "report_on",
]
