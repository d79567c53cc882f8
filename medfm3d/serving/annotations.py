"""What an annotator drew, as a label map of a bundle's organs on the scan's own grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medfm3d.serving.segments import Segment, read_segments
from medfm3d.volumes import Volume, VolumeError, check_same_grid, resample_to

# A label drawn on voxels much larger than the scan's would be learnt with its steps.
COARSEST = 1.5


@dataclass(frozen=True)
class Annotation:
    """Organs that were drawn in a scan.

    Attributes:
        label: label map (I, J, K) on the scan's grid, with the bundle's ids.
        missing: organs of the bundle that were not drawn.
        ignored: names of segments that are no organ of the bundle.
        resampled: whether it was drawn on another grid.
    """

    label: Volume
    missing: tuple[str, ...]
    ignored: tuple[str, ...]
    resampled: bool


def read_annotation(
    path: str | Path,
    image: Volume,
    organs: Mapping[str, int],
    label_info: Sequence[Mapping[str, Any]] | None = None,
) -> Annotation:
    """Read a drawn label map, and map its segments to organs by their names, in upper or lower case.

    One on another grid is brought to the scan's by nearest neighbour, if it lies in the scan and its voxels are at most
    1.5 times as large.

    Args:
        path: NIfTI, NRRD or Slicer's segmentation (.seg.nrrd).
        image: the scan.
        organs: the bundle's organs and ids.
        label_info: names and numbers of the segments as Slicer sends them with a label; see `read_segments`.

    Raises:
        VolumeError: if the file is unusable, no segment is named like an organ, two organs overlap, or it does not fit
            the scan: naming the file, the fault and the remedy.
    """
    path = Path(path)
    known = {_plain(name): name for name in organs}
    if len(known) < len(organs):
        raise VolumeError(f"{path}: organs {', '.join(organs)} differ in upper and lower case alone; name them apart")
    segments, drawn = read_segments(path, organs, label_info)
    ignored = tuple(segment.name for segment in segments if _plain(segment.name) not in known)
    wanted = [segment for segment in segments if _plain(segment.name) in known]
    if not wanted:
        raise VolumeError(
            f"{path}: no segment is named like an organ ({', '.join(organs)}), only {', '.join(ignored) or 'none'}; "
            "rename the segments in Slicer's list of segments and submit the label again"
        )
    array, missing = _merged(path, wanted, drawn, {name: organs[known[name]] for name in known}, known)
    label = Volume(array, drawn[0].affine, path)
    on_grid = _same_grid(image, label)
    if not on_grid:
        label = _onto(image, label)
        missing = tuple(name for name, number in organs.items() if not (label.array == number).any())
    return Annotation(label, missing, ignored, resampled=not on_grid)


def _merged(
    path: Path, segments: Sequence[Segment], layers: Sequence[Volume], ids: Mapping[str, int], known: Mapping[str, str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    array = np.zeros(layers[0].shape, dtype=np.uint16)
    missing = dict.fromkeys(known)
    for segment in segments:
        name = _plain(segment.name)
        mask = layers[segment.layer].array == segment.value
        if (overlap := int((mask & (array > 0) & (array != ids[name])).sum())) > 0:
            raise VolumeError(
                f"{path}: segment {segment.name} overlaps others in {overlap} voxels, and each voxel is of one organ; "
                "in Slicer's Segment Editor choose 'Modify other segments: Overwrite all' and draw it again"
            )
        array[mask] = ids[name]
        if mask.any():
            missing.pop(name, None)
    return array, tuple(known[name] for name in missing)


def _same_grid(image: Volume, label: Volume) -> bool:
    try:
        check_same_grid(image, label)
    except VolumeError:
        return False
    return True


def _onto(image: Volume, label: Volume) -> Volume:
    remedy = "draw on the scan itself, or export the segmentation with the scan as reference geometry"
    # Columns: an image axis in the label's voxels; a label voxel must not be larger than what COARSEST allows.
    steps = np.abs(np.linalg.inv(label.affine[:3, :3]) @ image.affine[:3, :3]).max(axis=0)
    if (1 / steps > COARSEST).any():
        sizes = [" x ".join(f"{size:.3g}" for size in volume.spacing_mm) for volume in (label, image)]
        raise VolumeError(
            f"{label.source}: its voxels ({sizes[0]} mm) are much larger than the scan's ({sizes[1]} mm); {remedy}"
        )
    voxels = np.argwhere(label.array > 0)
    if len(voxels):
        to_image = np.linalg.inv(image.affine) @ label.affine
        corners = np.stack([voxels.min(axis=0), voxels.max(axis=0)])
        grid = np.stack(np.meshgrid(*corners.T, indexing="ij"), axis=-1).reshape(-1, 3)
        places = grid @ to_image[:3, :3].T + to_image[:3, 3]
        if (places < -1.0).any() or (places > np.array(image.shape)).any():
            raise VolumeError(
                f"{label.source}: what is drawn lies outside of the scan {image.source or ''}, so it belongs to "
                f"another one or its header is wrong; {remedy}"
            )
    return resample_to(label, image, interpolation="nearest")


def _plain(name: str) -> str:
    return name.strip().casefold()
