"""NRRD and MetaImage files that are no usable scan, and things that are no files."""

import re
from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk
from fault import faults_of
from nifti_faults import AFFINE, voxels

from medfm3d.volumes import Volume, write_volume


def text(pattern: str, replacement: str, size: float = 1.0) -> Callable[[Path], None]:
    """A file whose header has a line changed, and of which only a share is there."""

    def make(path: Path) -> None:
        write_volume(Volume(voxels("int16"), AFFINE), path)
        content = path.read_bytes()
        changed, count = re.subn(pattern.encode(), replacement.encode(), content, count=1, flags=re.MULTILINE)
        assert count == 1 or not pattern, f"{path.name}: no {pattern}"
        path.write_bytes(changed[: int(len(changed) * size)])

    return make


def colours(path: Path) -> None:
    sitk.WriteImage(sitk.Image([6, 6, 6], sitk.sitkVectorUInt8, 3), str(path))


def four_dimensions(path: Path) -> None:
    sitk.WriteImage(sitk.Image([5, 5, 5, 3], sitk.sitkInt16), str(path))


def without_space(path: Path) -> None:
    head = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\nendian: little\n\n"
    path.write_bytes(head + bytes(range(64)))


def without_its_voxels(path: Path) -> None:
    write_volume(Volume(voxels("int16"), AFFINE), path)
    (voxel_file,) = (other for other in path.parent.iterdir() if other.stem == path.stem and other != path)
    voxel_file.unlink()


def folder_with_text(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("nothing here")


NRRD = faults_of(
    ("nrrd cut short", "cannot be read", text("", "", 0.6)),
    (
        "nrrd without a space",
        "so left and right are unknown; export it with the field",
        without_space,
    ),
    ("nrrd with a huge shape", "more than can lie in", text("^sizes: .*$", "sizes: 30000 30000 30000")),
    (
        "nrrd with a zero voxel size",
        "cannot be read (Refusing to change spacing",
        text(r"^space directions: \([^)]*\)", "space directions: (0,0,0)"),
    ),
    ("nrrd without a magic number", "cannot be read", text("^NRRD", "NARD")),
    ("nrrd of colours", "holds 3 numbers per voxel", colours),
    suffix=".nrrd",
)
META_IMAGE = faults_of(
    ("mha cut short", "cannot be read", text("", "", 0.6)),
    (
        "mha with a negative voxel size",
        "write the true voxel size",
        text("^ElementSpacing = .*$", "ElementSpacing = 1 -1 1"),
    ),
    (
        "mha with words for a voxel size",
        "write the true voxel size",
        text("^ElementSpacing = .*$", "ElementSpacing = a b c"),
    ),
    (
        "mha without a voxel size",
        "its header gives no voxel size; write it there",
        text("^ElementSpacing = .*$", "Comment = none"),
    ),
    ("mha with a huge shape", "more than can lie in", text("^DimSize = .*$", "DimSize = 30000 30000 30000")),
    ("mha with an unknown type", "cannot be read", text("^ElementType = .*$", "ElementType = MET_WHATEVER")),
    ("mha of four dimensions", "has 4 dimensions; give a 3D file", four_dimensions),
    suffix=".mha",
)
DETACHED = faults_of(("mhd without its voxels", "cannot be read", without_its_voxels), suffix=".mhd")
NO_FILES = faults_of(
    ("link to nowhere", "no such file; check the path", lambda path: path.symlink_to("nowhere.nii.gz")),
    ("link to itself", "no such file; check the path", lambda path: path.symlink_to(path.name)),
    ("no file at all", "no such file; check the path", lambda path: None),
    ("folder in a file's place", "holds no DICOM series; name the folder that holds the slices", folder_with_text),
    suffix=".nii.gz",
)
OTHER = faults_of(
    ("file of another kind", "is not a volume by its name; supported are", lambda path: path.write_bytes(b"%PDF-1.4")),
    suffix=".pdf",
)
