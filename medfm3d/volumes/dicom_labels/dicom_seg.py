"""Label maps as DICOM Segmentation objects (PS3.3, A.51), by highdicom."""

import re
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from medfm3d.volumes.dicom_labels.made_by import LONGEST, MANUFACTURER, MadeBy
from medfm3d.volumes.dicom_labels.named_masks import NamedMasks, OneByOne, check_organs
from medfm3d.volumes.dicom_labels.organ_codes import organ_code
from medfm3d.volumes.dicom_labels.source_series import SourceSeries, turned_onto
from medfm3d.volumes.errors import VolumeError
from medfm3d.volumes.itk_files import LPS_TO_RAS
from medfm3d.volumes.palette import organ_colours
from medfm3d.volumes.volume import Volume

SERIES_NUMBER = 7001  # a number that scanners do not reach, so that viewers list it behind the scans
ROUNDED = 0.1  # voxels that directions of few decimals put a corner off: those of the scan are made orthogonal
_LABEL_VALUE = re.compile(r"label value (\d+)$")


def dicom_seg(labels: Volume, organs: Mapping[str, int], series: SourceSeries, made_by: MadeBy) -> Dataset:
    """Return a label map as a binary DICOM segmentation of its series, one segment for each organ.

    Segments are numbered from 1 in the organs' order, as DICOM demands, and described by their label value. An organ
    without a voxel is a segment without frames. Frames without a voxel are left out; if there is none at all, all are
    kept empty, since an object without frames is not allowed.

    Args:
        labels: the label map, on the grid of the series.
        organs: each organ's label value.
        series: that the labels were drawn on.
        made_by: what drew them.

    Raises:
        VolumeError: if the labels lie on another grid, or hold values that no organ has; if a name is too long for
            DICOM.
    """
    check_organs(labels, organs)
    frames = series.frames(labels)
    numbers = np.zeros(1 + max(organs.values()), dtype=np.uint8 if len(organs) < 256 else np.uint16)
    for number, value in enumerate(organs.values(), start=1):
        numbers[value] = number
    colours = organ_colours(list(organs))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Ee]mpty.*")  # of a mask without any voxel, which is told above
        segmentation = hd.seg.Segmentation(
            source_images=series.slices,
            pixel_array=numbers[frames],
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _description(number, organ, value, colours[organ], made_by)
                for number, (organ, value) in enumerate(organs.items(), start=1)
            ],
            series_instance_uid=generate_uid(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=made_by.name,
            software_versions=made_by.software,
            device_serial_number=made_by.serial,
            content_description="Outlined organs",
            content_creator_name=None,
            content_label="ORGANS",
            series_description=f"Organs by {made_by.name}"[:LONGEST],
            specific_character_set="ISO_IR 192",
        )
    return segmentation


def masks_of_dicom_seg(dataset: Dataset, source: Path, grid: Volume | None = None) -> NamedMasks:
    """Return the segments of a DICOM segmentation as masks by name.

    Args:
        dataset: the whole file.
        source: its path, for messages.
        grid: the scan's, on which the masks are wanted; if left out, they lie on the segmentation's own frames, which
            are often fewer.

    Raises:
        VolumeError: if it is fractional or two segments have the same name; from the masks, if it lies on another
            grid or its frames are no even stack.
    """
    try:
        segmentation = hd.seg.Segmentation.from_dataset(dataset, copy=False)
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        raise VolumeError(f"{source}: is no valid DICOM segmentation ({error}); export it again") from error
    if segmentation.segmentation_type == hd.seg.SegmentationTypeValues.FRACTIONAL:
        raise VolumeError(f"{source}: holds probabilities (FRACTIONAL); export it as BINARY segmentation")
    makers, values = {}, {}
    for number in segmentation.segment_numbers:
        described = segmentation.get_segment_description(number)
        name = str(described.SegmentLabel)
        if name in makers:
            raise VolumeError(f"{source}: has two segments named {name!r}; rename one")
        makers[name] = partial(_mask, segmentation, int(number), source, grid)
        told = _LABEL_VALUE.search(str(described.get("SegmentDescription", "")))
        values[name] = int(told[1]) if told else int(number)
    return NamedMasks(source, OneByOne(makers), values)


def _mask(segmentation: hd.seg.Segmentation, number: int, source: Path, grid: Volume | None) -> Volume:
    try:
        stack = segmentation.get_volume(segment_numbers=[number])
    except (ValueError, RuntimeError, AttributeError) as error:
        raise VolumeError(f"{source}: its frames are no even stack of slices ({error}); export it again") from error
    mask = Volume(stack.array[..., 0].astype(bool), LPS_TO_RAS @ stack.affine, source)
    return mask if grid is None else _within(grid, mask)


def _within(grid: Volume, part: Volume) -> Volume:
    """Return a mask of some slices, laid into the whole grid."""
    ends = np.array([[0, 0, 0, 1], [*(side - 1 for side in part.shape), 1]]).T
    corners = np.rint(np.linalg.inv(grid.affine) @ part.affine @ ends)[:3].astype(int)
    low, high = corners.min(axis=1), corners.max(axis=1) + 1
    if (low < 0).any() or (high > grid.shape).any():
        raise VolumeError(f"{part.source}: reaches beyond its scan {grid.source}; name the scan that it was drawn on")
    origin = grid.affine @ [*low, 1]
    cut = grid.affine.copy()
    cut[:3, 3] = origin[:3]
    box = tuple(slice(start, end) for start, end in zip(low, high, strict=True))
    whole = np.zeros(grid.shape, dtype=bool)
    space = Volume(np.broadcast_to(np.uint8(0), high - low), cut, grid.source)
    whole[box] = turned_onto(space, part, tolerance=ROUNDED).array
    return Volume(whole, grid.affine, part.source)


def _description(number: int, organ: str, value: int, colour: str, made_by: MadeBy) -> hd.seg.SegmentDescription:
    code = organ_code(organ)
    kind = hd.seg.SegmentAlgorithmTypeValues
    described = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=organ,
        segmented_property_category=code.category,
        segmented_property_type=code.type,
        algorithm_type=kind.AUTOMATIC if made_by.automatic else kind.MANUAL,
        algorithm_identification=algorithm_identification(made_by) if made_by.automatic else None,
        tracking_id=f"{organ} {number}"[:LONGEST],
        tracking_uid=generate_uid(),
        display_color=hd.color.CIELabColor.from_rgb(*bytes.fromhex(colour.removeprefix("#"))),
    )
    described.SegmentDescription = f"label value {value}"
    if code.side is not None:
        side = hd.sr.CodedConcept.from_code(code.side)
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return described


def algorithm_identification(made_by: MadeBy) -> hd.AlgorithmIdentificationSequence:
    """Return the algorithm that drew outlines as DICOM names it (PS3.3, 10.16)."""
    return hd.AlgorithmIdentificationSequence(
        name=made_by.name, version=made_by.version, family=codes.DCM.ArtificialIntelligence, source=MANUFACTURER
    )
