"""Volumes: one scan and its geometry, from file to file."""

from medfm3d.volumes.check import check_label, check_same_grid, check_volume
from medfm3d.volumes.errors import VolumeError, VolumeWarning
from medfm3d.volumes.intensity import IntensityNormalized, detect_modality
from medfm3d.volumes.json_files import write_json
from medfm3d.volumes.mask_box import mask_box
from medfm3d.volumes.monai_io import LoadVolumed, SaveVolumed
from medfm3d.volumes.orientation import reorient
from medfm3d.volumes.paths import VOLUME_SUFFIXES, find_volumes, is_dicom_folder, output_name
from medfm3d.volumes.plain_tensor import plain_tensor
from medfm3d.volumes.reading import read_label, read_volume
from medfm3d.volumes.resampling import resample, resample_to
from medfm3d.volumes.spacing import ResampleToSpacingd
from medfm3d.volumes.volume import Volume
from medfm3d.volumes.writing import write_volume

__all__ = [
    "VOLUME_SUFFIXES",
    "IntensityNormalized",
    "LoadVolumed",
    "ResampleToSpacingd",
    "SaveVolumed",
    "Volume",
    "VolumeError",
    "VolumeWarning",
    "check_label",
    "check_same_grid",
    "check_volume",
    "detect_modality",
    "find_volumes",
    "is_dicom_folder",
    "mask_box",
    "output_name",
    "plain_tensor",
    "read_label",
    "read_volume",
    "reorient",
    "resample",
    "resample_to",
    "write_json",
    "write_volume",
]
