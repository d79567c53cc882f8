"""Inference: adapted bundles written, opened and run over scans."""

from medfm3d.inference.bundle_reader import read_card, read_plan, read_priors
from medfm3d.inference.bundle_writer import BundleError, check_output, staging_folder, write_bundle
from medfm3d.inference.component_cleanup import KeepExpectedComponentsd, changes_file, list_changes
from medfm3d.inference.hausdorff_handler import HausdorffDistanceMm
from medfm3d.inference.inputs import list_inputs
from medfm3d.inference.probabilities import SaveProbabilitiesd
from medfm3d.inference.remarks import list_remarks
from medfm3d.inference.workflow import bundle_template, run_workflow

__all__ = [
    "BundleError",
    "HausdorffDistanceMm",
    "KeepExpectedComponentsd",
    "SaveProbabilitiesd",
    "bundle_template",
    "changes_file",
    "check_output",
    "list_changes",
    "list_inputs",
    "list_remarks",
    "read_card",
    "read_plan",
    "read_priors",
    "run_workflow",
    "staging_folder",
    "write_bundle",
]
