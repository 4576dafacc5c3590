# SPDX-License-Identifier: Apache-2.0
"""Diagnostics of posterior collapse; units are nats throughout."""

from pyro_idvae.diagnostics.assignments import Assignments, assignments
from pyro_idvae.diagnostics.autopsy import Autopsy, InferenceGap, autopsy
from pyro_idvae.diagnostics.calibration import Calibration, calibrate
from pyro_idvae.diagnostics.certificate import Certificate, certify
from pyro_idvae.diagnostics.collapse import ChainAgreement, CollapseReport, collapse_report
from pyro_idvae.diagnostics.compare import Comparison, compare
from pyro_idvae.diagnostics.consistency import Consistency, consistency
from pyro_idvae.diagnostics.evaluation import (
    Evaluation,
    EvaluationTable,
    RowEstimate,
    evaluate,
    evaluation_table,
)
from pyro_idvae.diagnostics.evidence import Evidence, log_evidence
from pyro_idvae.diagnostics.forecast import Forecast, forecast
from pyro_idvae.diagnostics.importance import ImportanceEstimate, importance_log_likelihood
from pyro_idvae.diagnostics.information import DiscreteInformation, discrete_information
from pyro_idvae.diagnostics.metrics import active_units, kl_to_prior
from pyro_idvae.diagnostics.witness import ModelWitness, Witness, find_witness

__all__ = [
    "Assignments",
    "Autopsy",
    "Calibration",
    "Certificate",
    "ChainAgreement",
    "CollapseReport",
    "Comparison",
    "Consistency",
    "DiscreteInformation",
    "Evaluation",
    "EvaluationTable",
    "Evidence",
    "Forecast",
    "ImportanceEstimate",
    "InferenceGap",
    "ModelWitness",
    "RowEstimate",
    "Witness",
    "active_units",
    "assignments",
    "autopsy",
    "calibrate",
    "certify",
    "collapse_report",
    "compare",
    "consistency",
    "discrete_information",
    "evaluate",
    "evaluation_table",
    "find_witness",
    "forecast",
    "importance_log_likelihood",
    "kl_to_prior",
    "log_evidence",
]
