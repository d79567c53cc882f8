"""The bundles that a server offers: adapted ones, fresh ones that wait for their first training, and any others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from medfm3d.adaptation.plan import check_organs
from medfm3d.inference import BundleError, bundle_template, read_card
from medfm3d.inference.bundle_writer import CARD_FILE
from medfm3d.serving.bundle_versions import recover_bundle
from medfm3d.volumes import write_json

FRESH_FILE = "organs.json"
FRESH_FORMAT = "medfm3d-untrained-1"
MOST_ID = 255  # Slicer asks for masks of 8 bits


@dataclass(frozen=True)
class ServedBundle:
    """A bundle in a server.

    Attributes:
        name: its folder's name, by which clients know it.
        path: its folder.
    """

    name: str
    path: Path

    @property
    def trained(self) -> bool:
        """Whether there is a model to run."""
        return not (self.path / FRESH_FILE).is_file()

    @property
    def adapted(self) -> bool:
        """Whether medfm3d made it from outlined scans, or will, so that the Train button can make it anew."""
        return not self.trained or (self.path / CARD_FILE).is_file()

    @property
    def organs(self) -> dict[str, int]:
        """Organs and ids of an adapted or fresh bundle; raises BundleError if its files are broken."""
        if self.trained:
            return dict(read_card(self.path)["plan"]["organs"])
        return dict(_read_json(self.path / FRESH_FILE)["organs"])


def find_bundle(name_or_path: str) -> ServedBundle:
    """Return and check a bundle given by its folder, or by the name of one that medfm3d ships.

    Raises:
        BundleError: if there is none, a file of it is missing or broken, its weights do not fit its network, or its
            masks cannot be shown in Slicer.
    """
    path = Path(name_or_path)
    recover_bundle(path.absolute())
    if not path.exists():
        if path.parent != Path() or path.suffix:
            raise BundleError(f"{path}: no such folder; name the folder of a bundle")
        path = bundle_template(name_or_path)
    served = ServedBundle(path.resolve().name, path.resolve())
    check_bundle(served)
    return served


def fresh_bundle(folder: Path, organs: Mapping[str, int]) -> ServedBundle:
    """Return a bundle that is yet to be trained on these organs, made now or the one that was made there earlier.

    Raises:
        BundleError: if something else is there, or a bundle for other organs.
    """
    recover_bundle(folder)
    served = ServedBundle(folder.name, folder)
    if not folder.exists():
        check_organs(organs)
        folder.mkdir(parents=True)
        write_json({"format": FRESH_FORMAT, "organs": dict(organs)}, folder / FRESH_FILE)
    check_bundle(served)
    if not served.adapted or served.organs != dict(organs):
        there = ", ".join(f"{name}={number}" for name, number in served.organs.items()) if served.adapted else "others"
        raise BundleError(f"{folder}: is there already, for organs {there}; name another bundle by --name")
    return served


def check_bundle(bundle: ServedBundle) -> None:
    """Raise BundleError if a bundle cannot be served: naming the file, the fault and the remedy."""
    if not bundle.trained:
        content = _read_json(bundle.path / FRESH_FILE)
        if content.get("format") != FRESH_FORMAT:
            raise BundleError(f"{bundle.path / FRESH_FILE}: has format {content.get('format')!r}; update medfm3d")
        organs = bundle.organs
    else:
        for name in ("inference", "metadata"):
            _read_json(bundle.path / "configs" / f"{name}.json")
        if not bundle.adapted and not _model_file(bundle.path):
            remedy = "adapt it to outlined scans first (medfm3d adapt), or serve --organs to outline them in Slicer"
            raise BundleError(f"{bundle.path}: has no models/model.pt; {remedy}")
        if bundle.adapted:
            read_card(bundle.path)
        _check_weights(bundle.path)
        organs = bundle.organs if bundle.adapted else {}
    if too_large := [name for name, number in organs.items() if number > MOST_ID]:
        raise BundleError(
            f"{bundle.path}: ids of {', '.join(too_large)} are above {MOST_ID}, and Slicer asks MONAI Label for masks "
            "of 8 bits; adapt with smaller ids"
        )


def _model_file(path: Path) -> Path | None:
    files = (path / "models" / name for name in ("model.pt", "model.ts"))
    return next((file for file in files if file.is_file()), None)


def _check_weights(path: Path) -> None:
    file = _model_file(path)
    if file is None or file.suffix == ".ts":
        return
    parser = ConfigParser()
    parser.read_config(str(path / "configs" / "inference.json"))
    parser["bundle_root"] = str(path)
    try:
        network = parser.get_parsed_content("network_def", instantiate=True)
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        network.load_state_dict(checkpoint.get("model", checkpoint))
    except Exception as error:  # whatever a config, a pickle or a state dict can do wrong
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BundleError(
            f"{file}: does not load into the bundle's network ({reason}); copy or adapt it again"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BundleError(f"{path}: no such file; {path.parents[1]} is not a MONAI bundle for inference")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: is not valid JSON ({error}); copy or adapt the bundle again") from error
