"""The ends of a MONAI pipeline: scans in and masks out, with their geometry."""

from collections.abc import Hashable, Mapping
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImaged, MapTransform, SaveImaged

from medfm3d.volumes.errors import VolumeError
from medfm3d.volumes.paths import dicom_labels_suffix, mask_path
from medfm3d.volumes.reading import read_label, read_volume
from medfm3d.volumes.volume import Volume
from medfm3d.volumes.writing import write_volume

if TYPE_CHECKING:
    from medfm3d.volumes.dicom_labels import MadeBy


class LoadVolumed(LoadImaged):
    """Read scans as channel-first MetaTensors, with the checks of `read_volume`.

    MONAI's own loader tries one reader after another and hides what the first one said of a faulty file; this one
    raises the `VolumeError` itself. It is a `LoadImaged`, because MONAI Label looks for those.

    Args:
        keys: entries that hold paths; they become (1, D, H, W), float32 for scans and int32 for label maps.
        label: whether the files are label maps.
    """

    def __init__(self, keys: KeysCollection, label: bool = False) -> None:
        # LoadImaged's own constructor would set up every reader that MONAI knows, and warn of those that are not
        # installed. MONAI Label sets `image_only` on `_loader` and nothing else.
        MapTransform.__init__(self, keys)
        self._loader = SimpleNamespace(image_only=True)
        self.label = label

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        """Return the data with paths replaced by tensors; raises VolumeError for an unusable file."""
        result = dict(data)
        for key in self.key_iterator(result):
            path = result[key]
            volume = read_label(path) if self.label else read_volume(path)
            array = np.ascontiguousarray(volume.array, dtype=np.int32 if self.label else np.float32)
            affine = torch.from_numpy(volume.affine)
            # An array, as MONAI's readers give it: a tuple would come out of a data loader turned on its side.
            shape = np.array(volume.shape)
            meta = {"filename_or_obj": str(path), "original_affine": affine, "spatial_shape": shape}
            result[key] = MetaTensor(torch.from_numpy(array)[None], affine=affine, meta=meta)
        return result


class SaveVolumed(SaveImaged):
    """Write masks on their scan's grid, one file a scan, whole or not at all.

    Args:
        keys: entries of shape (1, D, H, W) with the scan's affine.
        output_dir: folder to write to.
        output_ext: file type: ".nii.gz", ".nii", ".nrrd", ".mha" or ".mhd"; ".seg.dcm" or ".rtstruct.dcm" for DICOM
            outlines of scans that are DICOM series.
        output_postfix: appended to the scan's name after an underscore, unless empty.
        dtype: type of the voxels.
        organs: each organ's label value, which DICOM outlines need.
        bundle: the bundle that made the masks, whose name and version DICOM outlines hold.

    Attributes:
        written: the files written so far.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        output_ext: str = ".nii.gz",
        output_postfix: str = "",
        dtype: str = "uint16",
        organs: Mapping[str, int] | None = None,
        bundle: str | Path | None = None,
    ) -> None:
        MapTransform.__init__(self, keys)
        self.output_dir = Path(output_dir)
        self.output_ext = output_ext
        self.output_postfix = output_postfix
        self.dtype = np.dtype(dtype)
        self.organs, self.bundle = organs, bundle
        self.written: list[Path] = []

    def check_scan(self, scan: str | Path) -> None:
        """Raise VolumeError if the mask of a scan could not be written: DICOM outlines refer to a DICOM series."""
        if dicom_labels_suffix(self.output_ext) is None:
            return
        if self.organs is None or self.bundle is None:
            what = "DICOM outlines need the organs' names and the bundle, of which its config tells nothing"
            raise VolumeError(f"{scan}: {what}; adapt again with this version of medfm3d, or write NIfTI")
        if not Path(scan).is_dir():
            raise VolumeError(
                f"{scan}: is no DICOM series, so there is nothing that DICOM outlines could refer to; give the series "
                "itself, or write NIfTI"
            )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the masks and return the data unchanged.

        Raises:
            VolumeError: if two scans of one run have the same name, so that one mask would replace the other; if a
                scan itself would be overwritten.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            tensor = result[key]
            scan = Path(tensor.meta["filename_or_obj"])
            path = mask_path(self.output_dir, scan, self.output_ext, self.output_postfix)
            if path in self.written:
                raise VolumeError(f"{scan}: its mask {path} is another scan's already; give the scans distinct names")
            if path.resolve() == scan.resolve():
                raise VolumeError(f"{scan}: its mask would overwrite it; name another output folder")
            array = np.asarray(tensor.cpu())[0].astype(self.dtype)
            self.written.append(self._write(Volume(array, np.asarray(tensor.affine)), scan, path))
        return result

    @cached_property
    def _made_by(self) -> "MadeBy":
        """The same for all masks, and read out of the whole file of weights."""
        from medfm3d.volumes.dicom_labels import made_by_bundle

        return made_by_bundle(self.bundle)

    def _write(self, mask: Volume, scan: Path, path: Path) -> Path:
        if dicom_labels_suffix(path) is None:
            return write_volume(mask, path)
        from medfm3d.volumes.dicom_labels import write_dicom_labels  # takes a second to load

        self.check_scan(scan)
        return write_dicom_labels(mask, self.organs, scan, path, self._made_by)
