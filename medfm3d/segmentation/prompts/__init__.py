"""Promptable segmentation: points, boxes, scribbles, masks and names to a mask of one organ."""

from medfm3d.segmentation.prompts.click_simulation import Click, first_click, next_click
from medfm3d.segmentation.prompts.export import ExportPromptable, save_promptable
from medfm3d.segmentation.prompts.labelled_windows import LabelledCohort, LabelledWindows
from medfm3d.segmentation.prompts.organ_names import OrganNames
from medfm3d.segmentation.prompts.prompt import Prompt, PromptError, flat_box
from medfm3d.segmentation.prompts.prompt_request import read_request, request_text
from medfm3d.segmentation.prompts.prompt_session import PromptSession
from medfm3d.segmentation.prompts.prompt_training import PromptData, PromptTraining
from medfm3d.segmentation.prompts.promptable_segmenter import ImageFeatures, PromptableSegmenter, start_promptable
from medfm3d.segmentation.prompts.shipped import load_promptable

__all__ = [
    "Click",
    "ExportPromptable",
    "ImageFeatures",
    "LabelledCohort",
    "LabelledWindows",
    "OrganNames",
    "Prompt",
    "PromptData",
    "PromptError",
    "PromptSession",
    "PromptTraining",
    "PromptableSegmenter",
    "first_click",
    "flat_box",
    "load_promptable",
    "next_click",
    "read_request",
    "request_text",
    "save_promptable",
    "start_promptable",
]
