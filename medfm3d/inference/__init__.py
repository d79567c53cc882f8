"""Inference: adapted bundles written, opened and run over scans."""

from medfm3d.inference.air import SkipAir
from medfm3d.inference.augmented_inferer import AugmentedInferer
from medfm3d.inference.batch_engine import segment_batch
from medfm3d.inference.batch_journal import BatchJournal, CaseRecord, fingerprint
from medfm3d.inference.batch_shard import BatchShard
from medfm3d.inference.batch_stopped import BatchStopped
from medfm3d.inference.batch_summary import write_shared_summary, write_summary
from medfm3d.inference.boxed_inferer import BoxedInferer
from medfm3d.inference.bundle_reader import read_card, read_plan, read_priors
from medfm3d.inference.bundle_writer import BundleError, check_output, staging_folder, write_bundle
from medfm3d.inference.case_segmenter import CaseSegmenter
from medfm3d.inference.coarse_search import CoarseSearch
from medfm3d.inference.component_cleanup import KeepExpectedComponentsd, changes_file, list_changes
from medfm3d.inference.inputs import check_names, list_inputs
from medfm3d.inference.log_priors import AddLogPriorsd, list_log_priors, log_priors_file
from medfm3d.inference.network_export import ExportFormat, export_network
from medfm3d.inference.onnx_network import OnnxNetwork
from medfm3d.inference.organ_location import LocateOrgansd, read_boxes, read_frame
from medfm3d.inference.output_folder import check_replaced, forget_remarks, mask_files, prepare_output
from medfm3d.inference.predicted_dice import DiceModel, PredictedDice, fit_dice_model
from medfm3d.inference.probabilities import SaveProbabilitiesd
from medfm3d.inference.prompted_inferer import LoadPromptedScand, PromptedInferer
from medfm3d.inference.ray_cluster import WorkerShare, share_machines
from medfm3d.inference.ray_engine import segment_on_ray
from medfm3d.inference.reduce_to_input_grid import ReduceToInputGridd
from medfm3d.inference.remarks import list_remarks
from medfm3d.inference.streaming_inferer import StreamingInferer
from medfm3d.inference.tensorrt import compile_by_tensorrt
from medfm3d.inference.transductive_inferer import TransductiveInferer, list_refinements, refinement_file
from medfm3d.inference.uncertainty import AssessQualityd, list_quality, organ_features, quality_file
from medfm3d.inference.watching import watch_folder
from medfm3d.inference.workflow import bundle_template, require_values, run_workflow

__all__ = [
    "AddLogPriorsd",
    "AssessQualityd",
    "AugmentedInferer",
    "BatchJournal",
    "BatchShard",
    "BatchStopped",
    "BoxedInferer",
    "BundleError",
    "CaseRecord",
    "CaseSegmenter",
    "CoarseSearch",
    "DiceModel",
    "ExportFormat",
    "KeepExpectedComponentsd",
    "LoadPromptedScand",
    "LocateOrgansd",
    "OnnxNetwork",
    "PredictedDice",
    "PromptedInferer",
    "ReduceToInputGridd",
    "SaveProbabilitiesd",
    "SkipAir",
    "StreamingInferer",
    "TransductiveInferer",
    "WorkerShare",
    "bundle_template",
    "changes_file",
    "check_names",
    "check_output",
    "check_replaced",
    "compile_by_tensorrt",
    "export_network",
    "fingerprint",
    "fit_dice_model",
    "forget_remarks",
    "list_changes",
    "list_inputs",
    "list_log_priors",
    "list_quality",
    "list_refinements",
    "list_remarks",
    "log_priors_file",
    "mask_files",
    "organ_features",
    "prepare_output",
    "quality_file",
    "read_boxes",
    "read_card",
    "read_frame",
    "read_plan",
    "read_priors",
    "refinement_file",
    "require_values",
    "run_workflow",
    "segment_batch",
    "segment_on_ray",
    "share_machines",
    "staging_folder",
    "watch_folder",
    "write_bundle",
    "write_shared_summary",
    "write_summary",
]
