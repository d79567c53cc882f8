"""What goes wrong with a whole batch: its folders, the disk, memory, and people who interrupt it."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
from fault import faults_of
from nifti_faults import save, voxels

from medfm3d.inference import BatchJournal, CaseSegmenter
from medfm3d.inference.batch_journal import JOURNAL
from medfm3d.segmentation import Segmenter
from medfm3d.volumes import read_label


@dataclass
class Place:
    """A folder to work in, with a sound bundle, and the command line."""

    folder: Path
    bundle: Path
    command: Callable[..., tuple[int, str]]
    patch: pytest.MonkeyPatch

    @property
    def masks(self) -> Path:
        return self.folder / "masks"

    def scans(self, count: int = 2, folder: str = "scans") -> Path:
        (self.folder / folder).mkdir(exist_ok=True)
        for number in range(count):
            save(self.folder / folder / f"scan_{number}.nii.gz", voxels())
        return self.folder / folder

    def words(self, scans: Path, masks: Path | None = None) -> tuple[object, ...]:
        return "segment", "--bundle", self.bundle, "--input", scans, "--output", masks or self.masks

    def segment(self, scans: Path, masks: Path | None = None) -> tuple[int, str]:
        return self.command(*self.words(scans, masks))

    def check_whole(self, *names: str) -> None:
        """Just these masks are there, all of them whole, and nothing half-written."""
        assert sorted(path.name for path in self.masks.glob("*.nii.gz")) == [f"{name}.nii.gz" for name in names]
        for mask in self.masks.glob("*.nii.gz"):
            read_label(mask)
        assert not [path.name for path in self.masks.iterdir() if path.name.startswith(".")]

    def goes_on(self, scans: Path, *names: str) -> None:
        """Called again, it does what is lacking."""
        code, said = self.segment(scans)
        assert code == 0, said
        self.check_whole(*names)


def nothing_there(place: Place) -> str:
    (place.folder / "empty").mkdir()
    return refused(place, place.folder / "empty")


def refused(place: Place, scans: Path, masks: Path | None = None) -> str:
    """What is said of a call that does nothing."""
    code, said = place.segment(scans, masks)
    assert code == 1 and not list(place.folder.glob("masks/*.nii.gz"))
    return said


def broken_manifest(place: Place) -> str:
    (place.folder / "dataset.json").write_text("{")
    return refused(place, place.folder / "dataset.json")


def two_of_one_name(place: Place) -> str:
    for folder in ("tree/a", "tree/b"):
        (place.folder / folder).mkdir(parents=True)
        save(place.folder / folder / "scan.nii.gz", voxels())
    return refused(place, place.folder / "tree")


def into_the_scans(place: Place) -> str:
    scans = place.scans()
    before = {path.name: path.read_bytes() for path in scans.iterdir()}
    said = refused(place, scans, scans)
    assert {path.name: path.read_bytes() for path in scans.iterdir()} == before
    return said


def into_the_outlines(place: Place) -> str:
    outlines = place.scans(1, "masks") / "scan_0.nii.gz"
    drawn = outlines.read_bytes()
    code, said = place.segment(place.scans())
    assert code == 1 and outlines.read_bytes() == drawn and [*place.masks.iterdir()] == [outlines]
    return said


def into_a_file(place: Place) -> str:
    place.masks.write_text("not a folder")
    said = refused(place, place.scans())
    assert place.masks.read_text() == "not a folder"
    return said


def full_disk(place: Place) -> str:
    scans, real, written = place.scans(3), nib.Nifti1Image.to_filename, []

    def write(image: nib.Nifti1Image, path: Path) -> None:
        if len(written) == 1:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        real(image, path)

    with place.patch.context() as patch:
        patch.setattr(nib.Nifti1Image, "to_filename", write)
        code, said = place.segment(scans)
    assert code == 1
    place.check_whole("scan_0")
    place.goes_on(scans, "scan_0", "scan_1", "scan_2")
    return said


def full_disk_for_the_journal(place: Place) -> str:
    place.masks.mkdir()
    (place.masks / JOURNAL).symlink_to("/dev/full")
    code, said = place.segment(place.scans())
    assert code == 1
    (place.masks / JOURNAL).unlink()
    place.goes_on(place.folder / "scans", "scan_0", "scan_1")
    return said


def no_memory(place: Place, fails: str, step: str, patched: tuple[Any, str], error: Exception) -> str:
    """One scan takes more memory than there is; what asks for it is patched while that scan is in a step."""
    real_step, real, now = getattr(CaseSegmenter, step), getattr(*patched), []

    def noted(segmenter: CaseSegmenter, what: Any) -> Any:
        path = str(what) if step == "read" else what["image"].meta["filename_or_obj"][0]
        now.append(fails in path)
        try:
            return real_step(segmenter, what)
        finally:
            now.pop()

    def asks(*arguments: Any, **options: Any) -> Any:
        if any(now):
            raise error
        return real(*arguments, **options)

    with place.patch.context() as patch:
        patch.setattr(CaseSegmenter, step, noted)
        patch.setattr(*patched, asks)
        code, said = place.segment(place.scans(3))
    assert code == 1
    place.check_whole("scan_0", "scan_2")
    place.goes_on(place.folder / "scans", "scan_0", "scan_1", "scan_2")
    return said


def no_memory_for_a_window(place: Place) -> str:
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000000000 bytes")
    return no_memory(place, "scan_1", "infer", (Segmenter, "forward"), error)


def no_memory_for_a_scan(place: Place) -> str:
    return no_memory(place, "scan_1", "read", (nib.arrayproxy.ArrayProxy, "__array__"), MemoryError())


def no_permission(place: Place) -> str:
    scans, real = place.scans(3), Path.open

    def opened(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "scan_1.nii.gz" and path.parent == scans:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *arguments, **options)

    with place.patch.context() as patch:
        patch.setattr(Path, "open", opened)
        code, said = place.segment(scans)
    assert code == 1
    place.check_whole("scan_0", "scan_2")
    return said


def garbage_in_the_journal(place: Place) -> str:
    scans = place.scans()
    assert place.segment(scans)[0] == 0
    journal = place.masks / JOURNAL
    kept = b"".join(journal.read_bytes().splitlines(keepends=True)[:2])
    journal.write_bytes(kept + b'\xff\xfe{\x00[]\n5\n[]\n{"begun": 5}\n{"begun": [[]], "at": 1.0}\n{}')
    code, said = place.segment(scans)
    assert code == 0
    place.check_whole("scan_0", "scan_1")
    assert len(BatchJournal(place.masks, "").records()) == 2
    return said


def half_a_mask_from_before(place: Place) -> str:
    scans = place.scans()
    left = place.masks / ".writing-abcd" / "scan_1.nii.gz"
    others = place.masks / ".writing-efgh" / "scan_9.nii.gz"  # of a process that is at work just now
    for path in (left, others):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    code, said = place.segment(scans)
    assert code == 0 and others.exists()
    others.unlink()
    others.parent.rmdir()
    place.check_whole("scan_0", "scan_1")
    return said


def interrupted(place: Place) -> str:
    scans = place.scans(60)
    command = [str(Path(sys.executable).with_name("medfm3d")), *map(str, place.words(scans)), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # What a shell starts in the background ignores Ctrl-C, and what that starts does too.
    command = ["env", "--default-signal=INT", *command]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 240
    while not BatchJournal(place.masks, "").records() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode not in (0, -signal.SIGINT), said
    done = [Path(record.mask).name.removesuffix(".nii.gz") for record in BatchJournal(place.masks, "").records()]
    assert 0 < len(done) < 60
    assert "Traceback" not in said
    assert not [path.name for path in place.masks.iterdir() if path.name.startswith(".")]
    for mask in place.masks.glob("*.nii.gz"):
        read_label(mask)
    return said


INPUTS = faults_of(
    ("empty folder", "holds no volume; supported are NIfTI, NRRD, MetaImage and DICOM series folders", nothing_there),
    ("folder that is not there", "no such file or folder", lambda place: refused(place, place.folder / "nowhere")),
    ("pattern that fits nothing", "holds no volume", lambda place: refused(place, place.scans() / "*_CT.nii.gz")),
    ("manifest that is no JSON", "dataset.json: is no Decathlon manifest", broken_manifest),
    ("two scans of one name", "as well; give the scans distinct names", two_of_one_name),
    ("masks over their scans", "its mask would overwrite it; name another output folder", into_the_scans),
    ("outlines where masks go", "is no mask that segment has made", into_the_outlines),
    ("output that is a file", "cannot be written to", into_a_file),
    (
        "output folder that is read-only",
        "cannot be written to",
        lambda place: refused(place, place.scans(), Path("/sys/kernel/masks")),
    ),
)
MACHINE = faults_of(
    ("full disk", "its mask cannot be written ([Errno 28] No space left on device", full_disk),
    (
        "full disk at the journal",
        "segmentation_journal.jsonl: cannot be written to ([Errno 28]",
        full_disk_for_the_journal,
    ),
    ("no memory for a window", "scan_1.nii.gz: memory ran out in step 'infer'", no_memory_for_a_window),
    ("no memory for a scan", "scan_1.nii.gz: no memory for its 12 x 11 x 10 voxels", no_memory_for_a_scan),
    (
        "scan without permission",
        "scan_1.nii.gz: cannot be opened (Permission denied); check its permissions",
        no_permission,
    ),
    ("garbage in the journal", "2 masks in", garbage_in_the_journal),
    ("half a mask of a killed process", "2 masks in", half_a_mask_from_before),
    ("Ctrl-C", "interrupted; call again to go on", interrupted),
)
