"""Evaluation: how masks compare with reference outlines, and the report on them."""

from medfm3d.evaluation.batch_page import write_batch_page
from medfm3d.evaluation.evaluation import Evaluation, cases_to_score, evaluate_cases, evaluate_folder
from medfm3d.evaluation.pairing import case_name, list_cases, list_predictions
from medfm3d.evaluation.predicted_quality import CaseQuality, PredictionAgreement, compare_prediction, rank_cases
from medfm3d.evaluation.report import write_report
from medfm3d.evaluation.scores import OrganScore, score_case
from medfm3d.evaluation.summary import METRICS, MetricSummary, OrganSummary

__all__ = [
    "METRICS",
    "CaseQuality",
    "Evaluation",
    "MetricSummary",
    "OrganScore",
    "OrganSummary",
    "PredictionAgreement",
    "case_name",
    "cases_to_score",
    "compare_prediction",
    "evaluate_cases",
    "evaluate_folder",
    "list_cases",
    "list_predictions",
    "rank_cases",
    "score_case",
    "write_batch_page",
    "write_report",
]
