"""DICOM folders that are no usable scan, made from a small series."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from fault import faults_of

SERIES, FRAME = "1.2.826.0.1.3680043.2.1125.7", "1.2.826.0.1.3680043.2.1125.8"


def write_series(folder: Path, slices: int = 8, uid: str = SERIES) -> list[Path]:
    """Write a CT series of 12 x 11 pixels and return its files, from the feet up."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(5)
    files = []
    for number in range(slices):
        image = sitk.GetImageFromArray(rng.integers(-900, 900, (1, 11, 12)).astype(np.int16))
        image.SetSpacing([1.0, 1.2, 2.0])
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{uid}.{number + 1}",
            "0008|0060": "CT",
            "0020|000d": f"{SERIES}.900",
            "0020|000e": uid,
            "0020|0013": str(number + 1),
            "0020|0032": f"0\\0\\{2 * number}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0052": FRAME,
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        file = folder / f"{uid[-1]}_{number}.dcm"
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(file))
        writer.Execute(image)
        files.append(file)
    return files


def of_series(change: Callable[[list[Path]], object]) -> Callable[[Path], None]:
    return lambda folder: change(write_series(folder)) and None


def edited(number: int, **values: object) -> Callable[[Path], None]:
    """A series of which one slice has other values of some DICOM attributes."""

    def change(files: list[Path]) -> None:
        data = pydicom.dcmread(files[number])
        for name, value in values.items():
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)
        data.save_as(files[number])

    return of_series(change)


def tilted(files: list[Path]) -> None:
    for number, file in enumerate(files):
        data = pydicom.dcmread(file)
        data.ImagePositionPatient = [0, 0.4 * number, 2 * number]
        data.save_as(file)


def doubled(files: list[Path]) -> None:
    data = pydicom.dcmread(files[2])
    data.SOPInstanceUID = f"{SERIES}.77"
    data.save_as(files[2].with_name("again.dcm"))


def cut_short(files: list[Path]) -> None:
    files[-1].write_bytes(files[-1].read_bytes()[:-60])


def emptied(files: list[Path]) -> None:
    files[-1].write_bytes(b"")


def two_series(folder: Path) -> None:
    write_series(folder)
    write_series(folder, uid=f"{SERIES}.9")


def mixed_sizes(files: list[Path]) -> None:
    data = pydicom.dcmread(files[4])
    data.Rows, data.PixelData = 6, data.PixelData[: 6 * 12 * 2]
    data.save_as(files[4])


DICOM = faults_of(
    (
        "DICOM with a missing slice",
        "a slice is missing or the distance changes",
        of_series(lambda files: files[3].unlink()),
    ),
    ("DICOM with a doubled slice", "the folder mixes several phases or copies, keep one", of_series(doubled)),
    ("DICOM of two series", "holds 2 series", two_series),
    (
        "DICOM with a turned slice",
        "slices lie in different planes",
        edited(2, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
    ),
    ("DICOM with other pixel sizes", "slices have pixels of different sizes", edited(2, PixelSpacing=[2, 2])),
    ("DICOM with other picture sizes", "slices have different numbers of pixels", of_series(mixed_sizes)),
    ("DICOM of a tilted gantry", "the gantry is tilted by 11.31 degrees", of_series(tilted)),
    (
        "DICOM without positions",
        "has no image position (0020|0032) that can be read",
        edited(2, ImagePositionPatient=None),
    ),
    ("DICOM with a zero pixel size", "pixel spacing is [0.0, 0.0] mm", edited(2, PixelSpacing=[0, 0])),
    (
        "DICOM of one slice",
        "its series has a single slice; give the whole series",
        lambda folder: write_series(folder, 1),
    ),
    ("DICOM with its last slice cut short", "is no readable DICOM file; copy or export it again", of_series(cut_short)),
    ("DICOM with an empty file", "is no readable DICOM file; copy or export it again", of_series(emptied)),
)
