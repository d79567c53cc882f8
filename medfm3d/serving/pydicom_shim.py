"""MONAI Label 0.8.5 beside pydicom 3."""

import sys


def install_shim() -> None:
    """Let pydicom-seg 0.4.1, which MONAI Label imports, find pydicom's storage classes where pydicom 2 had them.

    pydicom 3 moved `pydicom._storage_sopclass_uids` into `pydicom.uid`; no version of pydicom-seg has followed. Nothing
    is changed where pydicom still has that module.
    """
    import pydicom.uid

    if not hasattr(pydicom, "_storage_sopclass_uids"):
        sys.modules.setdefault("pydicom._storage_sopclass_uids", pydicom.uid)
