"""Cohorts: many scans and what is known of them before they are read."""

from medfm3d.cohorts.errors import ArchiveError, CohortError, DownloadError, ManifestError
from medfm3d.cohorts.manifest import CohortManifest, Download, list_manifests, load_manifest, manifest_folder

__all__ = [
    "ArchiveError",
    "CohortError",
    "CohortManifest",
    "Download",
    "DownloadError",
    "ManifestError",
    "list_manifests",
    "load_manifest",
    "manifest_folder",
]
