"""Running a bundle's workflow from Python, as `python -m monai.bundle run` does from a shell."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from medfm3d.inference.bundle_writer import BundleError
from medfm3d.inference.config_literal import config_literal


def bundle_template(name: str) -> Path:
    """Return the folder of a bundle that medfm3d ships, in a checkout or an installed package.

    Raises:
        BundleError: if there is no bundle of that name.
    """
    shipped = shipped_bundles()
    if name not in shipped:
        raise BundleError(f"no bundle {name!r}; medfm3d ships {', '.join(shipped)}")
    return shipped[name]


def shipped_bundles() -> dict[str, Path]:
    """Return the folders of all bundles that medfm3d ships, by name, sorted."""
    package = Path(str(resources.files("medfm3d")))
    places = (package / "_bundles", package.parent / "bundles")  # installed; in a checkout, which goes first
    configs = (file.parent for place in places for file in place.glob("*/configs/metadata.json"))
    found = {folder.parent.name: folder.parent for folder in configs}
    return dict(sorted(found.items()))


def require_values(bundle: str | Path, workflow: str, names: Sequence[str]) -> None:
    """Raise BundleError unless a workflow's config has these values: an override of another would change nothing."""
    config = Path(bundle) / "configs" / f"{workflow}.json"
    _check_json(config)
    known = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    absent = [name for name in names if name not in known]
    if absent:
        raise BundleError(f"{config}: knows no {', '.join(absent)}; adapt again with this version of medfm3d")


def run_workflow(bundle: str | Path, workflow: str | Sequence[str], overrides: Mapping[str, Any]) -> ConfigWorkflow:
    """Run one workflow of a bundle: initialise, run, finalise; arguments and errors as of `open_workflow`.

    Returns:
        The workflow, whose parser gives access to everything that the config composed.
    """
    running = open_workflow(bundle, workflow, overrides)
    running.run()
    running.finalize()
    return running


def open_workflow(bundle: str | Path, workflow: str | Sequence[str], overrides: Mapping[str, Any]) -> ConfigWorkflow:
    """Return one workflow of a bundle, initialised and not yet run.

    Args:
        bundle: the bundle's folder.
        workflow: name of its config without suffix: "train", "inference"; or several, of which later ones replace
            values of earlier ones.
        overrides: config values to replace, by id; text that begins with $, @ or % is evaluated, other text stays.

    Raises:
        BundleError: if the bundle has no such workflow, or its config is no JSON.
    """
    bundle = Path(bundle)
    names = [workflow] if isinstance(workflow, str) else list(workflow)
    configs = [bundle / "configs" / f"{name}.json" for name in names]
    for config in configs:
        if not config.is_file():
            raise BundleError(f"{config}: no such file; {bundle} is not a MONAI bundle with such a workflow")
    for file in (*configs, bundle / "configs" / "metadata.json"):
        _check_json(file)
    opened = ConfigWorkflow(
        config_file=[str(config) for config in configs],
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train" if names[0] == "train" else "inference",
        bundle_root=config_literal(str(bundle)),
        **{name: config_literal(value) for name, value in overrides.items()},
    )
    opened.initialize()
    return opened


def _check_json(file: Path) -> None:
    """Say of a broken file which one it is; MONAI names none. One that is absent is MONAI's to say."""
    try:
        json.loads(file.read_text(encoding="utf-8") if file.is_file() else "{}")
    except ValueError as error:
        raise BundleError(f"{file}: is not valid JSON ({error}); correct the file, or adapt again") from error
