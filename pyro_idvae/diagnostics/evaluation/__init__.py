# SPDX-License-Identifier: Apache-2.0
"""One table of metrics: what a paper's row needs, computed once and side by side."""

from pyro_idvae.diagnostics.evaluation.evaluate import evaluate
from pyro_idvae.diagnostics.evaluation.evaluation import Evaluation
from pyro_idvae.diagnostics.evaluation.table import EvaluationTable, evaluation_table
from pyro_idvae.diagnostics.row_estimate import RowEstimate

__all__ = ["Evaluation", "EvaluationTable", "RowEstimate", "evaluate", "evaluation_table"]
