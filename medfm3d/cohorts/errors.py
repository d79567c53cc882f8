"""The errors of this room: one family, so that a caller can catch every fault of a cohort's description or files."""


class ManifestError(ValueError):
    """A cohort's manifest, folder or download is not as it must be; the message names file, fault and remedy."""


class DownloadError(ManifestError):
    """A file could not be downloaded whole, or is not the file that the manifest describes."""


class ArchiveError(ManifestError):
    """An archive is broken, or holds a member that must not be unpacked."""


class CohortError(ManifestError):
    """A folder cannot be read as a cohort, or a cohort cannot be split as asked."""
