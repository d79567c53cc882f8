"""Which number of a drawn label map is which segment: by Slicer's header, by what Slicer sends, or by the bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from medfm3d.volumes import Volume, VolumeError, check_label, read_label
from medfm3d.volumes.itk_files import from_itk


@dataclass(frozen=True)
class Segment:
    """A named segment: the voxels of one layer that have one value."""

    name: str
    value: int
    layer: int = 0


def read_segments(
    path: Path, organs: Mapping[str, int], label_info: Sequence[Mapping[str, Any]] | None
) -> tuple[list[Segment], list[Volume]]:
    """Return the segments of a label file and its layers; a plain label map has one.

    The header of a Slicer segmentation (fields SegmentN_Name, SegmentN_LabelValue and SegmentN_Layer, as Slicer's
    vtkMRMLSegmentationStorageNode writes them) counts most, then what came with the file, then the bundle's own ids.

    Slicer's MONAI Label module sends `label_info`, a list of {"name", "idx"}. It numbers `idx` by all segments, but
    the label map that it exports by those that it sends, from 1: both differ where a segment named background was left
    out.

    Raises:
        VolumeError: if the file is unusable or its numbers cannot be told to be which segments.
    """
    header = _header(path) if path.name.lower().endswith(".nrrd") else {}
    if "Segment0_Name" in header or "Segment0_LabelValue" in header:
        layers = _layers(path)
        return _from_header(path, header, len(layers)), layers
    label = read_label(path)
    values = [int(value) for value in np.unique(label.array) if value]
    if not values:
        raise VolumeError(f"{path}: nothing is drawn in it; draw the organs, then submit the label")
    if label_info:
        return _from_label_info(path, values, label_info), [label]
    if unknown := [value for value in values if value not in organs.values()]:
        listed = ", ".join(f"{name}={number}" for name, number in organs.items())
        raise VolumeError(
            f"{path}: holds numbers {unknown} without names, and the organs are {listed}; name the segments in Slicer, "
            "or use these numbers"
        )
    return [Segment(name, number) for name, number in organs.items()], [label]


def slicer_names(organs: Mapping[str, int]) -> dict[str, int]:
    """Return organs and ids such that Slicer gives each voxel its name.

    Slicer takes the names in the order of their ids, and the first for label 1, the second for label 2 and so on, as
    ImportLabelmapToSegmentationNode does. Ids that no organ has are given names that no segment has, which it skips.
    """
    names = {number: name for name, number in organs.items()}
    return {names.get(number, f"(no organ {number})"): number for number in range(1, max(names) + 1)}


def _header(path: Path) -> dict[str, str]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise VolumeError(f"{path}: cannot be read ({reason}); save the label again") from error
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def _layers(path: Path) -> list[Volume]:
    image = sitk.ReadImage(str(path))
    count = image.GetNumberOfComponentsPerPixel()
    if count == 1:
        return [read_label(path)]
    layers = [from_itk(sitk.VectorIndexSelectionCast(image, index), path) for index in range(count)]
    for layer in layers:
        check_label(layer)
    return layers


def _from_header(path: Path, header: Mapping[str, str], layers: int) -> list[Segment]:
    segments, index = [], 0
    while f"Segment{index}_Name" in header or f"Segment{index}_LabelValue" in header:
        name = header.get(f"Segment{index}_Name", f"Segment{index}")
        value = int(header.get(f"Segment{index}_LabelValue", "1"))
        layer = int(header.get(f"Segment{index}_Layer", "0"))
        if layer >= layers:
            raise VolumeError(f"{path}: segment {name} is said to be in layer {layer} of {layers}; save it again")
        segments.append(Segment(name, value, layer))
        index += 1
    return segments


def _from_label_info(path: Path, values: Sequence[int], label_info: Sequence[Mapping[str, Any]]) -> list[Segment]:
    names = [str(entry.get("name", "")) for entry in label_info]
    by_place = dict(enumerate(names, start=1))
    by_number = {int(entry["idx"]): name for entry, name in zip(label_info, names, strict=True) if "idx" in entry}
    readings = [reading for reading in (by_place, by_number) if all(value in reading for value in values)]
    if not readings:
        unnamed = [value for value in values if value not in by_place]
        raise VolumeError(
            f"{path}: holds numbers {unnamed} that are none of the segments {', '.join(names)} sent with it; "
            "submit the label again"
        )
    if any(
        {value: reading[value] for value in values} != {value: readings[0][value] for value in values}
        for reading in readings
    ):
        raise VolumeError(
            f"{path}: its numbers {list(values)} may mean one segment or another; remove the segments named background "
            "or scribbles in Slicer, or let it send .seg.nrrd (Application Settings, MONAI Label, File Extension)"
        )
    return [Segment(name, value) for value, name in readings[0].items()]
