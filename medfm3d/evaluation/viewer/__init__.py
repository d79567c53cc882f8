"""Looking at scans and masks in a browser: the page, what it is fed, and the server of `medfm3d view`."""

from medfm3d.evaluation.viewer.assets import niivue_licence, niivue_script
from medfm3d.evaluation.viewer.cases import OpenedCase, ViewerCase, open_case, pair_scans, single_case
from medfm3d.evaluation.viewer.embedded import EmbeddedCases, embed_cases
from medfm3d.evaluation.viewer.server import ViewerServer

__all__ = [
    "EmbeddedCases",
    "OpenedCase",
    "ViewerCase",
    "ViewerServer",
    "embed_cases",
    "niivue_licence",
    "niivue_script",
    "open_case",
    "pair_scans",
    "single_case",
]
