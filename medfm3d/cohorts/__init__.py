"""Cohorts: many scans and what is known of them before they are read."""

from medfm3d.cohorts.cohort import Case, Cohort, cohort_from_folders, read_cohort
from medfm3d.cohorts.errors import ArchiveError, CohortError, DownloadError, ManifestError
from medfm3d.cohorts.manifest import CohortManifest, Download, list_manifests, load_manifest, manifest_folder
from medfm3d.cohorts.splits import KShotSplit, k_shot_split, organ_volumes_ml

__all__ = [
    "ArchiveError",
    "Case",
    "Cohort",
    "CohortError",
    "CohortManifest",
    "Download",
    "DownloadError",
    "KShotSplit",
    "ManifestError",
    "cohort_from_folders",
    "k_shot_split",
    "list_manifests",
    "load_manifest",
    "manifest_folder",
    "organ_volumes_ml",
    "read_cohort",
]
