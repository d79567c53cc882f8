"""A scan with two organs, and what an annotator may draw in it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medfm3d.volumes import Volume
from medfm3d.volumes.itk_files import to_itk


@pytest.fixture
def scan() -> Volume:
    """Scan of 20 x 24 x 16 voxels, 2 x 1.5 x 2 mm, tilted in no way."""
    affine = np.diag([2.0, 1.5, 2.0, 1.0])
    affine[:3, 3] = (-10, 5, 30)
    return Volume(np.random.default_rng(0).normal(0, 50, (20, 24, 16)).astype(np.float32), affine)


@pytest.fixture
def drawn(scan: Volume) -> Volume:
    """Liver as 1 and spleen as 2, as Slicer numbers segments."""
    array = np.zeros(scan.shape, dtype=np.uint8)
    array[3:9, 4:12, 5:11] = 1
    array[12:17, 14:20, 6:12] = 2
    return Volume(array, scan.affine)


@pytest.fixture
def write_segmentation(tmp_path: Path) -> Callable[..., Path]:
    """Write layers as a Slicer segmentation: {name: (layer, value)}."""

    def write(layers: list[Volume], segments: Mapping[str, tuple[int, int]]) -> Path:
        images = [to_itk(layer) for layer in layers]
        image = images[0] if len(images) == 1 else sitk.Compose(images)
        for index, (name, (layer, value)) in enumerate(segments.items()):
            image.SetMetaData(f"Segment{index}_Name", name)
            image.SetMetaData(f"Segment{index}_Layer", str(layer))
            image.SetMetaData(f"Segment{index}_LabelValue", str(value))
        path = tmp_path / "drawn.seg.nrrd"
        sitk.WriteImage(image, str(path))
        return path

    return write
