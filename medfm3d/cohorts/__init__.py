"""Cohorts: many scans and what is known of them before they are read."""

from medfm3d.cohorts.archive import unpack_archive
from medfm3d.cohorts.check import CheckFinding, CohortReport, check_cohort
from medfm3d.cohorts.cohort import Case, Cohort
from medfm3d.cohorts.dataset_file import parse_cohort, read_cohort
from medfm3d.cohorts.download import DownloadedFile, download_file
from medfm3d.cohorts.errors import ArchiveError, CohortError, DownloadError, ManifestError
from medfm3d.cohorts.fetching import FetchedFile, FetchReport, fetch
from medfm3d.cohorts.manifest import CohortManifest, Download, list_manifests, load_manifest, manifest_folder
from medfm3d.cohorts.paired_folders import cohort_from_folders
from medfm3d.cohorts.phantom import PHANTOM_ORGANS, AbdominalPhantom, write_phantom_cohort
from medfm3d.cohorts.preprocessed_cache import ContentKeyedCache
from medfm3d.cohorts.splits import KShotSplit, k_shot_split, organ_volumes_ml

__all__ = [
    "PHANTOM_ORGANS",
    "AbdominalPhantom",
    "ArchiveError",
    "Case",
    "CheckFinding",
    "Cohort",
    "CohortError",
    "CohortManifest",
    "CohortReport",
    "ContentKeyedCache",
    "Download",
    "DownloadError",
    "DownloadedFile",
    "FetchReport",
    "FetchedFile",
    "KShotSplit",
    "ManifestError",
    "check_cohort",
    "cohort_from_folders",
    "download_file",
    "fetch",
    "k_shot_split",
    "list_manifests",
    "load_manifest",
    "manifest_folder",
    "organ_volumes_ml",
    "parse_cohort",
    "read_cohort",
    "unpack_archive",
    "write_phantom_cohort",
]
