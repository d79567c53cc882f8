"""Who drew an outline, as DICOM asks for it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from medfm3d import __version__
from medfm3d.volumes.errors import VolumeError

MANUFACTURER = "medfm3d"
LONGEST = 64  # characters of a value of representation LO (PS3.5, 6.2)


@dataclass(frozen=True)
class MadeBy:
    """What outlines were made by.

    Attributes:
        name: of the algorithm, such as that of a bundle.
        version: of the algorithm.
        serial: tells it from others of that name and version; of a bundle, the beginning of its weights' SHA-256.
        automatic: whether no person drew them.
    """

    name: str
    version: str
    serial: str = "0"
    automatic: bool = True

    def __post_init__(self) -> None:
        for text in (self.name, self.version, self.serial):
            check_text(text, "name and version of what made the outlines")

    @property
    def software(self) -> str:
        """The version of medfm3d that writes them down."""
        return f"{MANUFACTURER} {__version__}"


def made_by_bundle(bundle: str | Path) -> MadeBy:
    """Return name, version and weights of a MONAI bundle.

    Raises:
        VolumeError: if its metadata.json is missing or no JSON.
    """
    file = Path(bundle) / "configs" / "metadata.json"
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VolumeError(
            f"{file}: cannot be read ({error}), and DICOM outlines name the bundle that made them; name its folder"
        ) from error
    weights = Path(bundle) / "models" / "model.pt"
    serial = hashlib.sha256(weights.read_bytes()).hexdigest()[:16] if weights.is_file() else "0"
    return MadeBy(str(metadata.get("name") or Path(bundle).resolve().name), str(metadata.get("version", "0")), serial)


def check_text(text: str, what: str) -> str:
    """Return a text that fits into a DICOM value of representation LO; raise VolumeError for any other."""
    if not text.strip() or len(text) > LONGEST or "\\" in text or not text.isprintable():
        raise VolumeError(
            f"{text!r}: {what} must be 1 to {LONGEST} printable characters without backslash to go into DICOM; "
            "choose another name, or write NIfTI"
        )
    return text
