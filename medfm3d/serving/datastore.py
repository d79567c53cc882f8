"""The folder of scans and labels: a label that cannot be learnt from is refused while it is still on screen."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from medfm3d.serving.annotations import read_annotation
from medfm3d.serving.served_bundle import ServedBundle
from medfm3d.volumes import VolumeError, read_volume


class CheckedDatastore(LocalDatastore):
    """MONAI Label's local datastore, which saves a final label only if a bundle can learn from it.

    Args:
        folder: the folder of scans.
        bundles: gives those that learn.
        arguments: as of `LocalDatastore`.
    """

    def __init__(self, folder: str, bundles: Callable[[], Sequence[ServedBundle]], **arguments: Any) -> None:
        self._bundles = bundles
        super().__init__(folder, **arguments)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Save a label; arguments as of `LocalDatastore.save_label`.

        Raises:
            HTTPException: if there is no such image (404), or no bundle can learn from the label (422); nothing is
                saved then, and an earlier label stays.
        """
        image = self.get_image_uri(image_id)
        if not image:
            raise HTTPException(404, f"there is no scan {image_id} in the server's folder; upload it first")
        if label_tag == DefaultLabelTag.FINAL and self._bundles():
            self._check(image_id, Path(image), Path(label_filename), (label_info or {}).get("label_info"))
        return super().save_label(image_id, label_filename, label_tag, label_info)

    def _check(self, image_id: str, image: Path, label: Path, names: Sequence[dict[str, Any]] | None) -> None:
        errors = []
        for bundle in self._bundles():
            try:
                read_annotation(label, read_volume(image), bundle.organs, names)
                return
            except VolumeError as error:
                errors.append(str(error).replace(str(label), f"the label of {image_id}"))
        raise HTTPException(422, "; ".join(dict.fromkeys(errors)))
