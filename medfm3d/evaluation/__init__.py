"""Evaluation: how masks compare with reference outlines, and the report on them."""

from medfm3d.evaluation.evaluation import Evaluation, evaluate_folder
from medfm3d.evaluation.pairing import case_name, list_predictions
from medfm3d.evaluation.report import write_report
from medfm3d.evaluation.scores import OrganScore, score_case
from medfm3d.evaluation.summary import METRICS, MetricSummary, OrganSummary

__all__ = [
    "METRICS",
    "Evaluation",
    "MetricSummary",
    "OrganScore",
    "OrganSummary",
    "case_name",
    "evaluate_folder",
    "list_predictions",
    "score_case",
    "write_report",
]
