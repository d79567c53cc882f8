"""An adapted segmenter as a MONAI bundle of its own."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from medfm3d import __version__
from medfm3d.adaptation import AdaptationPlan, read_support
from medfm3d.cohorts import Case
from medfm3d.encoders import file_sha256, read_header
from medfm3d.encoders.public_weights import imported_origin
from medfm3d.inference.config_literal import config_literal
from medfm3d.priors import PRIORS, PriorSet, create_priors

PRIORS_FILE = "models/priors.json"
CARD_FILE = "models/segmenter.json"
_PARTIAL = ".partial"
_COPIED = ("LICENSE", "configs", "docs")


class BundleError(ValueError):
    """A bundle folder that cannot be written or used: the message names it, the fault and the remedy."""


def check_output(output: str | Path) -> None:
    """Raise BundleError if a folder that a new bundle is to become is already there and not empty."""
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(part.name != _PARTIAL for part in output.iterdir())):
        raise BundleError(f"{output}: already there; name another output folder, or remove this one")
    above = next(folder for folder in output.absolute().parents if folder.exists())
    if not above.is_dir():
        raise BundleError(f"{above}: is a file, so no folder can be made in it; name another output folder")


def staging_folder(output: str | Path) -> str:
    """Return the folder in which a bundle grows until it is complete: hidden, beside the final one.

    It is within the final one if that is there already: empty, but maybe the current folder, the end of a link or
    another file system.
    """
    output = Path(os.path.realpath(output))
    return str(output / _PARTIAL if output.is_dir() else output.with_name(f".{output.name}.partial"))


def write_bundle(
    *,
    template: str | Path,
    staging: str | Path,
    output: str | Path,
    name: str,
    plan: AdaptationPlan,
    method: str,
    method_arguments: Mapping[str, Any],
    method_reason: str,
    support: Sequence[Case],
    seed: int,
    encoder: str,
    encoder_weights: str | Path | None,
    decoder_weights: str | Path | None,
    iterations: int,
    encoder_arguments: Mapping[str, Any] | None = None,
    priors: Sequence[str] = tuple(PRIORS),
    training_priors: Sequence[str] = (),
    boxed: bool = False,
) -> Path:
    """Complete the bundle whose trained `models/model.pt` lies in the staging folder, and move it to its place.

    What adaptation decided (plan, organs, method) is written into the configs as plain values, so that the bundle
    needs neither the template nor the support set: `monai.bundle run`, MONAI Label and `medfm3d segment` read it as
    it is. Organ priors are fitted on the support set.

    Args:
        template: the bundle whose configs are filled in, such as `bundles/fewshot_organ_segmentation`.
        staging: folder that holds models/model.pt, from `staging_folder`.
        output: the bundle's final place; must be free.
        name: the bundle's name.
        plan: the adaptation plan.
        method: name of the adaptation method.
        method_arguments: its arguments.
        method_reason: why it was taken, in words.
        support: the support cases.
        seed: of the adaptation.
        encoder: name of the encoder.
        encoder_weights: pretrained weights that adaptation started from; None if from fresh ones.
        decoder_weights: pretrained decoder weights, if any.
        iterations: optimiser steps taken.
        encoder_arguments: arguments that differ from those of the named encoder.
        priors: names of the organ priors that are fitted and stored.
        training_priors: names of those that were constraints in training.
        boxed: whether it was trained inside the organs' box; inference then starts out boxed too.

    Returns:
        The bundle's folder.

    Raises:
        BundleError: if the output is not free or the staging folder holds no trained weights.
    """
    template, staging, output = Path(template), Path(staging), Path(output)
    check_output(output)
    if not (staging / "models" / "model.pt").is_file():
        raise BundleError(f"{staging}: holds no models/model.pt; adaptation did not finish, run it again")
    for part in _COPIED:
        _copy(template / part, staging / part)
    for part, file in {"encoder": encoder_weights, "decoder": decoder_weights}.items():
        if file is not None:
            shutil.copyfile(file, staging / "models" / f"{part}.safetensors")
    card = {
        "format": "medfm3d-segmenter-1",
        "name": name,
        "medfm3d_version": __version__,
        "date": date.today().isoformat(),
        "plan": plan.to_json(),
        "method": method,
        "method_arguments": dict(method_arguments),
        "method_reason": method_reason,
        "iterations": iterations,
        "priors": list(priors),
        "training_priors": list(training_priors),
        "boxed": boxed,
        "seed": seed,
        "support": [case.name for case in support],
        "encoder": encoder,
        "encoder_arguments": dict(encoder_arguments or {}),
        "encoder_pretrained": encoder_weights is not None,
        "decoder_pretrained": decoder_weights is not None,
        "encoder_provenance": read_header(encoder_weights)["provenance"] if encoder_weights else {"method": "none"},
    }
    _write_json(staging / CARD_FILE, card)
    images, labels = zip(*read_support(support, plan.organs), strict=True)
    PriorSet(create_priors(priors, plan.modality)).fit(labels, plan.organs, images).save(staging / PRIORS_FILE)
    _fill_in_configs(staging / "configs", card)
    shipped = encoder_weights is not None and _same(template / "models" / "encoder.safetensors", encoder_weights)
    _write_terms(staging / "docs" / "data_license.txt", card, shipped)
    _write_readme(staging / "docs" / "README.md", card)
    if not output.is_dir():
        staging.replace(output)
        return output
    for part in sorted(staging.iterdir(), key=lambda part: part.name == "models"):  # last what makes it an adapted one
        part.replace(output / part.name)
    staging.rmdir()
    return output


def _fill_in_configs(configs: Path, card: Mapping[str, Any]) -> None:
    plan = {"_target_": "medfm3d.adaptation.AdaptationPlan", **card["plan"]}
    inference = _read_json(configs / "inference.json")
    inference["plan"] = plan
    inference["boxed"] = card["boxed"]
    inference["network_def"] |= {
        "encoder": card["encoder"],
        "encoder_arguments": card["encoder_arguments"],
        "adapter": card["method"],
        "adapter_arguments": card["method_arguments"],
    }
    _write_json(configs / "inference.json", inference)

    train = _read_json(configs / "train.json")
    train |= {
        "name": config_literal(card["name"]),
        "plan": plan,
        "organs": card["plan"]["organs"],
        "method": card["method"],
        "method_arguments": card["method_arguments"],
        "choice": {
            "_target_": "medfm3d.adaptation.MethodChoice",
            "method": "@method",
            "arguments": "@method_arguments",
            "reason": card["method_reason"],
        },
        "encoder": card["encoder"],
        "encoder_arguments": card["encoder_arguments"],
        "priors": card["priors"],
        "training_priors": card["training_priors"],
        "boxed": card["boxed"],
        "iterations": card["iterations"],
        "seed": card["seed"],
        "ckpt_dir": "$@bundle_root + '/models'",  # trained again, by MONAI Label say, the bundle keeps its place
        "output_dir": "$@bundle_root",
        "initialize": ["$monai.utils.set_determinism(seed=@seed)"],
    }
    del train["finalize"], train["staging_dir"]
    for part in ("encoder", "decoder"):
        if not card[f"{part}_pretrained"]:
            train[f"{part}_weights"] = None
    _write_json(configs / "train.json", train)

    evaluate = _read_json(configs / "evaluate.json")
    # What the network was adapted to says nothing of how well it does on others.
    evaluate["support_names"] = config_literal(card["support"])
    _write_json(configs / "evaluate.json", evaluate)

    metadata = _read_json(configs / "metadata.json")
    organs = card["plan"]["organs"]
    channels = {"0": "background"} | {str(number): organ for organ, number in organs.items()}
    metadata["name"] = card["name"]
    metadata["version"] = "0.1.0"
    metadata["changelog"] = {"0.1.0": f"adapted by medfm3d {card['medfm3d_version']} on {card['date']}"}
    metadata["description"] = f"Segments {', '.join(organs)} in {card['plan']['modality']}; adapted by medfm3d"
    metadata["data_source"] = f"{len(card['support'])} support cases: {', '.join(card['support'])}"
    formats = metadata["network_data_format"]
    formats["inputs"]["image"]["modality"] = card["plan"]["modality"]
    formats["inputs"]["image"]["spatial_shape"] = card["plan"]["window"]
    formats["outputs"]["pred"] |= {
        "num_channels": len(channels),
        "channel_def": channels,
        "spatial_shape": card["plan"]["window"],
    }
    _write_json(configs / "metadata.json", metadata)


def _write_terms(path: Path, card: Mapping[str, Any], shipped: bool) -> None:
    """Say what the bundle learnt from whom, instead of what the template's own weights did."""
    text = f"""This bundle was trained with the outlines of these scans: {", ".join(card["support"])}.
Whoever gave you the scans decides who may have it: models/model.pt was learnt from them, and models/priors.json holds
what their organs have in common.
"""
    if "location" in card["priors"]:
        text += "It also holds a picture, in voxels of 12 mm, of each scan in which the body's outline is in sight.\n"
    origin = _encoder_origin(card)
    if shipped:
        text += f"\nThe weights that training started from:\n\n{path.read_text(encoding='utf-8')}"
    elif origin:
        text += f"\n{origin}\n"
    elif card["encoder_pretrained"]:
        text += f"\nIts encoder was pretrained on: {card['encoder_provenance'].get('data', 'its file does not say')}\n"
    path.write_text(text, encoding="utf-8")


def _encoder_origin(card: Mapping[str, Any]) -> str:
    """Return whose an imported encoder is and what its licence forbids, as a sentence; nothing of other encoders."""
    origin = imported_origin(card["encoder_provenance"])
    if origin is None:
        return ""
    warning = f": {origin['licence']['warning']}" if origin["licence"]["warning"] else ""
    return f"Its encoder is {origin['title']}, licence {origin['licence']['name']}{warning}."


def _same(one: str | Path, other: str | Path) -> bool:
    return Path(one).is_file() and file_sha256(one) == file_sha256(other)


def _write_readme(path: Path, card: Mapping[str, Any]) -> None:
    plan = card["plan"]
    organs = "\n".join(f"| {number} | {organ} |" for organ, number in plan["organs"].items())
    origin = _encoder_origin(card)
    terms = f"\n{origin}\n" if origin else ""
    text = f"""# {card["name"]}

A MONAI bundle that outlines organs in {plan["modality"]}, adapted by medfm3d {card["medfm3d_version"]} from
{len(card["support"])} labelled scans ({", ".join(card["support"])}) with method `{card["method"]}`,
{card["iterations"]} steps, seed {card["seed"]}, on {card["date"]}.

| label id | organ |
|---|---|
{organs}

Scans are brought to {" x ".join(f"{size:g}" for size in plan["spacing_mm"])} mm and passed in windows of
{" x ".join(str(side) for side in plan["window"])} voxels; masks come back on the input's grid.

    medfm3d segment --bundle . --input SCANS --output MASKS
    python -m monai.bundle run --config_file configs/inference.json --bundle_root . \\
        --dataset_dir SCANS --output_dir MASKS

{terms}
It learnt from scans of people: docs/data_license.txt says what it holds of them and what to ask before passing it on.
A config's `$` expressions are Python code: run bundles from people you trust. Not for clinical use.
"""
    path.write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(source, target)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=4) + "\n", encoding="utf-8")
