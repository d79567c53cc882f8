"""The fault table: what can go wrong, and what medfm3d says. `python tests/faults/table.py` prints docs/faults.md."""

import sys

from bundle_faults import BUNDLES
from dicom_faults import DICOM
from fault import Section
from itk_faults import DETACHED, META_IMAGE, NO_FILES, NRRD, OTHER
from label_faults import LABELS
from nifti_faults import DOUBTFUL, PACKED, PLAIN
from run_faults import INPUTS, MACHINE

SCANS = Section(
    "Scans",
    "The scan is named with what is wrong, has no mask, and the others go on; the exit code is 1 at the end.",
    (*PACKED, *PLAIN, *NRRD, *META_IMAGE, *DETACHED, *DICOM, *NO_FILES, *OTHER),
)
WARNED = Section("Doubtful scans", "The scan is segmented, and a warning says what is doubtful.", DOUBTFUL)
OUTLINES = Section(
    "Label maps",
    "`medfm3d adapt` and `evaluate` name the file and stop; of unknown organs `adapt` makes a remark, "
    "and `data check` a fault.",
    LABELS,
)
DAMAGED = Section("Bundles and options", "`medfm3d segment` ends before any scan is touched.", BUNDLES)
FOLDERS = Section("Folders", "`medfm3d segment` ends before any scan is touched; nothing is overwritten.", INPUTS)
MISHAPS = Section(
    "While it runs",
    "Masks that are finished stay, none is left half-written, and the same command goes on where it was. What concerns "
    "one scan alone does not keep the others from being done.",
    MACHINE,
)
SECTIONS = (SCANS, WARNED, OUTLINES, DAMAGED, FOLDERS, MISHAPS)
_INTRODUCTION = """# What can go wrong, and what happens then

Each row of these tables is provoked in a test. Every message begins with the file or folder that it is about. What
happens when a process or a worker of `--engine ray` is killed is in [batch.md](batch.md).
"""


def page() -> str:
    """Return docs/faults.md."""
    parts = [_INTRODUCTION]
    for section in SECTIONS:
        rows = "\n".join(f"| {fault.name} | {_cell(fault.says)} |" for fault in section.faults)
        parts.append(f"## {section.title}\n\n{section.outcome}\n\n| fault | message |\n| --- | --- |\n{rows}\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"`... {escaped} ...`"


if __name__ == "__main__":
    sys.stdout.write(page())
