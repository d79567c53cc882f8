"""The unlabelled volumes of a cohort, preprocessed once and kept on disk as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from monai.transforms import EnsureTyped, Orientationd, Spacingd, Transform

from medfm3d.cohorts.dataset_file import read_cohort
from medfm3d.cohorts.preprocessed_cache import ContentKeyedCache, transform_hash
from medfm3d.cohorts.volume_store import StoredVolume, VolumeStore, is_store
from medfm3d.volumes import IntensityNormalized, LoadVolumed, VolumeError, find_volumes


@dataclass(frozen=True)
class PretrainingCohort:
    """Unlabelled volumes that are prepared alike.

    Attributes:
        images: a volume file, a DICOM series folder, a folder of volumes, a folder with a dataset.json (its images are
            taken, its labels are not), a store made of such by `medfm3d data shard`, or several of these.
        weight: how often its windows are drawn, relative to the other cohorts.
        spacing_mm: voxel size to resample to, along the axes of RAS orientation; a single number for all three; each
            scan keeps its own if None.
        modality: "CT", "MR" or "auto", for the normalisation of intensities.
    """

    images: str | Path | Sequence[str | Path]
    weight: float = 1.0
    spacing_mm: float | Sequence[float] | None = None
    modality: str = "auto"

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"a cohort's weight must be positive, got {self.weight}")

    def files(self) -> list[Path]:
        """Return the files and DICOM series folders, in a fixed order.

        Raises:
            VolumeError: if a path does not exist or holds no volume.
        """
        return [file for path in self._paths() for file in _files_at(path)]

    def names(self) -> list[str]:
        """Return the last part of each path."""
        return [path.resolve().name for path in self._paths()]

    def parts(self) -> list["PretrainingCohort"]:
        """Return cohorts prepared alike, each of one store or of what lies, in the order of paths, between two."""
        runs = [(stored, list(paths)) for stored, paths in groupby(self._paths(), key=is_store)]
        images = [part for stored, paths in runs for part in (paths if stored else [paths])]
        return [replace(self, images=part) for part in images]

    def preprocessing(self) -> list[Transform]:
        """Return the transforms from a file to a float16 tensor (1, I, J, K) in RAS with normalised intensities."""
        spacing = [] if self.spacing_mm is None else [Spacingd("image", pixdim=self._spacing(), mode="bilinear")]
        return [
            LoadVolumed("image"),
            Orientationd("image", axcodes="RAS"),
            IntensityNormalized("image", modality=self.modality),
            *spacing,
            EnsureTyped(
                "image", dtype=torch.float16, track_meta=False
            ),  # half the room, and half the reading, of float32
        ]

    def is_stored(self) -> bool:
        """Return whether the volumes are those of one store."""
        return len(self._paths()) == 1 and is_store(self._paths()[0])

    def settings(self) -> dict[str, Any]:
        """Return how volumes are prepared, as JSON values: spacing, modality, and a digest of the transforms."""
        return {
            "spacing_mm": None if self.spacing_mm is None else list(self._spacing()),
            "modality": self.modality,
            "preparation": transform_hash(self.preprocessing()).decode(),
        }

    def _paths(self) -> list[Path]:
        return [Path(path) for path in ([self.images] if isinstance(self.images, str | Path) else self.images)]

    def _spacing(self) -> tuple[float, ...]:
        spacing = self.spacing_mm
        return (float(spacing),) * 3 if isinstance(spacing, int | float) else tuple(spacing)


class PreparedVolumes:
    """The volumes of a cohort in a cache folder.

    Args:
        cohort: whose volumes.
        files: those of its files that are meant.
        cache_dir: folder of the entries; several runs and processes may share it.
    """

    def __init__(self, cohort: PretrainingCohort, files: Sequence[Path], cache_dir: str | Path) -> None:
        self._items = [{"image": str(file)} for file in files]
        self._cache = ContentKeyedCache(
            self._items, cohort.preprocessing(), cache_dir, file_keys=("image",), track_meta=False
        )

    def prepare(self) -> None:
        """Preprocess what is not in the cache yet; the error of a bad file names it."""
        for index, entry in enumerate(self.entries()):
            if not entry.is_file():
                self._cache[index]

    def entries(self) -> list[Path]:
        """Return the cache entry of each file: a dictionary whose `image` is a (1, I, J, K) float16 tensor."""
        return [self._cache.entry_path(item) for item in self._items]


def prepare_entries(cohort: PretrainingCohort, cache_dir: str | Path) -> None:
    """Prepare the volumes of a cohort that lie neither in a store nor in the cache."""
    for part in cohort.parts():
        if not part.is_stored():
            PreparedVolumes(part, part.files(), cache_dir).prepare()


def prepared_entries(cohort: PretrainingCohort, cache_dir: str | Path) -> list[Path | StoredVolume]:
    """Return a cohort's prepared volumes: cache entries, as of `PreparedVolumes`, or volumes in a store.

    Raises:
        VolumeError: as `PretrainingCohort.files` and `VolumeStore`, and if a store was prepared otherwise than asked.
    """
    entries: list[Path | StoredVolume] = []
    for part in cohort.parts():
        if part.is_stored():
            entries += _stored_volumes(part)
        else:
            entries += PreparedVolumes(part, part.files(), cache_dir).entries()
    return entries


def _stored_volumes(cohort: PretrainingCohort) -> list[StoredVolume]:
    (folder,) = cohort._paths()
    store = VolumeStore(folder)
    asked = cohort.settings()
    for name, default in (("spacing_mm", None), ("modality", "auto")):
        value = asked[name]
        if value not in (default, store.settings[name]):
            raise VolumeError(
                f"{store.folder}: was prepared with {name} {store.settings[name]}, not {value}; leave {name} out, or "
                "make another store"
            )
    return store.volumes


def _files_at(path: Path) -> list[Path]:
    if not path.exists():
        raise VolumeError(f"{path}: does not exist; give a volume file, a folder of volumes or a cohort's folder")
    if (path / "dataset.json").is_file():
        return [case.image for case in read_cohort(path)]
    if not path.is_dir():
        return [path]
    found = find_volumes(path)
    if not found:
        raise VolumeError(f"{path}: holds no volume; give a folder of volumes, or one with a dataset.json")
    return found
