"""What is known of scans before anyone has outlined them: features, and how well the model in place does on them."""

import json
from pathlib import Path

import numpy as np

from medfm3d.inference import quality_file
from medfm3d.inference.case_files import case_file
from medfm3d.serving.scan_features import scan_features
from medfm3d.serving.served_bundle import ServedBundle
from medfm3d.volumes.whole_file import whole_file


class ScanOutlook:
    """Features and predicted Dice of scans, kept in files, for the scan and the model as they are now.

    Args:
        folder: folder of the features.
        bundle: the bundle whose masks are judged.
        notes: where its inference leaves NAME_quality.json.
    """

    def __init__(self, folder: Path, bundle: ServedBundle, notes: Path) -> None:
        self.folder, self.bundle, self.notes = folder, bundle, notes

    def features(self, scan: Path) -> np.ndarray | None:
        """Return what was computed of a scan, (channels,); None if nothing was, or the scan has changed since."""
        file = self._features_file(scan)
        return np.load(file, allow_pickle=False) if _newer(file, scan) else None

    def compute_features(self, scan: Path) -> None:
        """Compute and keep the features of a scan; errors as of `scan_features`."""
        features = scan_features(scan)
        with whole_file(self._features_file(scan)) as whole:
            np.save(whole, features)

    def unusable(self, scan: Path) -> bool:
        """Whether the scan, as it is now, was found to be unusable."""
        return _newer(self._unusable_file(scan), scan)

    def mark_unusable(self, scan: Path, reason: str) -> None:
        """Keep that a scan is unusable, and why."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._unusable_file(scan).write_text(reason + "\n", encoding="utf-8")

    def predicted_dice(self, scan: Path) -> float | None:
        """Return the predicted Dice of the mask that the model in place makes, over organs; None if not known."""
        file = quality_file(self.notes, scan)
        if not self.bundle.trained or not _newer(file, scan) or not _newer(file, self.bundle.path / "models/model.pt"):
            return None
        dice = json.loads(file.read_text(encoding="utf-8")).get("predicted_dice") or {}
        return float(np.mean(list(dice.values()))) if dice else None

    def _unusable_file(self, scan: Path) -> Path:
        return case_file(self.folder, scan, "_unusable.txt")

    def _features_file(self, scan: Path) -> Path:
        return case_file(self.folder, scan, "_features.npy")


def _newer(file: Path, origin: Path) -> bool:
    return file.is_file() and origin.is_file() and file.stat().st_mtime_ns > origin.stat().st_mtime_ns
