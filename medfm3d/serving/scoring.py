"""MONAI Label's scoring and active learning with `ScanOutlook`: scans are looked at in the background."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy

from medfm3d.serving.next_scan import choose_next
from medfm3d.serving.scan_outlook import ScanOutlook
from medfm3d.volumes import VolumeError

STRATEGY = "most_helpful"
TAKEN_S = 1800  # a scan that was offered is somebody's for half an hour
logger = logging.getLogger(__name__)


class OutlookScoring(ScoringMethod):
    """Looks at scans without labels: features once, and a mask by each new model.

    Args:
        outlook: where it keeps what it finds.
        infer: makes the masks.
    """

    def __init__(self, outlook: ScanOutlook, infer: InferTask) -> None:
        super().__init__("What the encoder says of each scan, and how good its mask will be")
        self.outlook, self.infer = outlook, infer

    def waiting(self, datastore: Datastore) -> list[Path]:
        """Return the scans that are yet to be looked at."""
        labelled = set(datastore.get_labeled_images())
        scans = {name: Path(datastore.get_image_uri(name)) for name in datastore.list_images()}
        return [scan for name, scan in scans.items() if self._misses(scan, mask=name not in labelled)]

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Look at the waiting scans; those that cannot be used are named."""
        labelled = set(datastore.get_labeled_images())
        unusable = {}
        for name in datastore.list_images():
            scan = Path(datastore.get_image_uri(name))
            try:
                if self.outlook.features(scan) is None and not self.outlook.unusable(scan):
                    self.outlook.compute_features(scan)
                if self._misses(scan, mask=name not in labelled):
                    self.infer({"image": str(scan), "device": request.get("device"), "skip_writer": True})
            except (VolumeError, HTTPException) as error:
                unusable[name] = getattr(error, "detail", str(error))
                logger.warning(f"{name}: {unusable[name]}")
                self.outlook.mark_unusable(scan, unusable[name])
        return {"looked_at": len(datastore.list_images()) - len(unusable), "unusable": unusable}

    def _misses(self, scan: Path, mask: bool) -> bool:
        if self.outlook.unusable(scan):
            return False
        if self.outlook.features(scan) is None:
            return True
        return mask and self.outlook.bundle.trained and self.outlook.predicted_dice(scan) is None


class MostHelpful(Strategy):
    """Offers the scan whose label would help most, by `choose_next`.

    Scans that nobody has looked at yet are not offered, except where there are no others. One that was offered in the
    last half hour counts as labelled, so that two annotators get different scans, and whoever asks again another one.

    Args:
        outlook: what is known of the scans.
    """

    def __init__(self, outlook: ScanOutlook) -> None:
        super().__init__(
            "The scan whose label would help most: like many others, unlike those labelled, and badly done"
        )
        self.outlook = outlook

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the id of the scan to label next, or None if all are labelled."""
        open_names = sorted(datastore.get_unlabeled_images())
        if not open_names:
            return None
        scans = {name: Path(datastore.get_image_uri(name)) for name in sorted(datastore.list_images())}
        features = {name: self.outlook.features(scan) for name, scan in scans.items()}
        known = [name for name in scans if features[name] is not None]
        offered = {name for name in open_names if self._offered(datastore, name)}
        if offered == set(open_names):
            offered = set()
        taken = [index for index, name in enumerate(known) if name not in open_names or name in offered]
        if len(taken) == len(known):
            rest = [name for name in open_names if name not in offered]
            rest.sort(key=lambda name: (self.outlook.unusable(scans[name]), name))
            logger.warning(f"{STRATEGY}: no open scan has been looked at yet; the first by name is offered")
            return {"id": rest[0]}
        dice = [self.outlook.predicted_dice(scans[name]) for name in known]
        predicted = np.array([np.nan if value is None else value for value in dice])
        (best,) = choose_next(np.stack([features[name] for name in known]), taken, predicted)
        logger.info(f"{STRATEGY}: {known[best]}, predicted Dice {dice[best]}")
        return {"id": known[best]}

    @staticmethod
    def _offered(datastore: Datastore, name: str) -> bool:
        offered = datastore.get_image_info(name).get("strategy", {}).get(STRATEGY, {})
        return time.time() - offered.get("ts", 0) < TAKEN_S
