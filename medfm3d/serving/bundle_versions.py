"""A bundle replaced by a newer one as a whole; the earlier ones stay, numbered, inside the newest."""

import shutil
from pathlib import Path

HISTORY = "history"
_SHARED = ("models/encoder.safetensors", "models/decoder.safetensors")


def replace_bundle(bundle: Path, newer: Path) -> Path:
    """Put a complete bundle in the place of another, which becomes `history/NNNN` of the new one.

    Two renames: whoever reads in between finds no bundle, and `recover_bundle` mends what was cut off there.

    Args:
        bundle: the bundle in its place.
        newer: the folder that takes it, on the same disk.

    Returns:
        Where the earlier bundle is kept now.
    """
    aside = _aside(bundle)
    bundle.replace(aside)
    newer.replace(bundle)
    return _keep(aside, bundle)


def recover_bundle(bundle: Path) -> None:
    """Finish or undo a replacement that was cut off, as by a power cut."""
    aside = _aside(bundle)
    if not aside.is_dir():
        return
    if bundle.exists():
        _keep(aside, bundle)
    else:
        aside.replace(bundle)


def earlier_versions(bundle: Path) -> list[Path]:
    """Return the earlier bundles that are kept in one, the oldest first."""
    return sorted(path for path in (bundle / HISTORY).glob("[0-9]*") if path.is_dir())


def _aside(bundle: Path) -> Path:
    return bundle.with_name(f".{bundle.name}.previous")


def _keep(aside: Path, bundle: Path) -> Path:
    history = bundle / HISTORY
    history.mkdir(exist_ok=True)
    for path in earlier_versions(aside):
        path.replace(history / path.name)
    shutil.rmtree(aside / HISTORY, ignore_errors=True)
    numbers = [int(path.name) for path in earlier_versions(bundle)]
    kept = history / f"{max(numbers, default=0) + 1:04d}"
    _share(aside, bundle)
    aside.replace(kept)
    return kept


def _share(older: Path, newer: Path) -> None:
    """Let equal pretrained weights of two versions be one file, so that a version adds the network alone."""
    for name in _SHARED:
        old, new = older / name, newer / name
        if old.is_file() and new.is_file() and old.read_bytes() == new.read_bytes():
            linked = new.with_name(f".{new.name}.linked")
            linked.unlink(missing_ok=True)
            try:
                linked.hardlink_to(old)
            except OSError:
                continue  # a disk without hard links: the copy stays
            linked.replace(new)
