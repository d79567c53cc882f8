"""Phantom: synthetic abdominal CT with exact labels, for tests, demonstrations and ablations without patients."""

from medfm3d.cohorts.phantom.cohort_writer import write_phantom_cohort
from medfm3d.cohorts.phantom.organ_tables import PHANTOM_ORGANS, reference_volume_ml
from medfm3d.cohorts.phantom.phantom import AbdominalPhantom

__all__ = ["PHANTOM_ORGANS", "AbdominalPhantom", "reference_volume_ml", "write_phantom_cohort"]
