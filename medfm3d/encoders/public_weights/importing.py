"""A published checkpoint becomes a weights file of medfm3d."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medfm3d.encoders.input_intensity import RescaledEncoder
from medfm3d.encoders.public_weights.axis_order import REVERSED, permute_axes
from medfm3d.encoders.public_weights.catalogue import CatalogueEntry, catalogue_entry, read_catalogue
from medfm3d.encoders.public_weights.checkpoint_file import read_checkpoint, tensors_of
from medfm3d.encoders.public_weights.fitting import Fit, fit_tensors
from medfm3d.encoders.public_weights.key_mapping import map_names
from medfm3d.encoders.public_weights.nnssl_plan import NnsslPlan
from medfm3d.encoders.public_weights.store import weights_folder
from medfm3d.encoders.public_weights.training_intensity import input_intensity
from medfm3d.encoders.registry import ENCODERS, create_encoder
from medfm3d.encoders.vit import ViTEncoder
from medfm3d.encoders.weights import WeightsError, file_sha256, save_encoder


@dataclass(frozen=True)
class ImportedWeights:
    """What an import gave.

    Attributes:
        entry: of the catalogue.
        path: the weights file.
        fit: what was loaded and what not.
        arguments: of the encoder, beside its name.
    """

    entry: CatalogueEntry
    path: Path
    fit: Fit
    arguments: Mapping[str, Any]


def import_weights(
    file: str | Path,
    name: str,
    *,
    folder: str | Path | None = None,
    in_channels: int = 1,
    least_share: float = 1.0,
    arguments: Mapping[str, Any] | None = None,
    intensity: Mapping[str, Any] | None = None,
) -> ImportedWeights:
    """Read a published checkpoint by the rules of a catalogue entry and write its encoder in medfm3d's format.

    Args:
        file: the checkpoint, as downloaded.
        name: of the entry.
        folder: where NAME.safetensors is written; `weights_folder` if None.
        in_channels: channels of the scans that the encoder is wanted for.
        least_share: share of the encoder's weights, counted in numbers, that the file must have; below it, nothing is
            written.
        arguments: of the encoder, that differ from the entry's.
        intensity: how the scans of training were normalised, in the catalogue's form, where the entry does not know.

    Raises:
        WeightsError: naming the file, what does not fit and what to do.
    """
    entry = catalogue_entry(name)
    file = Path(file)
    content = read_checkpoint(file)
    digest = file_sha256(file)
    if entry.file["sha256"] not in (None, digest):
        raise WeightsError(
            f"{file}: is not the published {entry.file['name']} (SHA-256 {digest}, not {entry.file['sha256']}); "
            f"download it again from {entry.origin['url']}"
        )
    try:
        tensors, chosen, ignored, unexpected = _encoder_tensors(entry, content, dict(arguments or {}), file)
    except WeightsError as error:
        raise error if str(file) in str(error) else WeightsError(f"{file}: {error}") from error
    if in_channels != 1:
        chosen["in_channels"] = in_channels
    encoder = create_encoder(entry.encoder["architecture"], **chosen)
    fit = fit_tensors(encoder, tensors, entry.checkpoint["input_projections"], unexpected)
    if fit.share < least_share:
        raise WeightsError(
            f"{file}: does not hold {name}; {fit.summary()}. {_other_entry(content, file, entry)}To take what there "
            f"is, allow a share of {int(fit.share * 1000) / 1000} (--allow-partial)"
        )
    encoder.load_state_dict(encoder.state_dict() | fit.loaded)
    normalisation = entry.intensity if intensity is None else intensity
    change = input_intensity(normalisation)
    if change is not None:
        chosen["input_intensity"] = change.to_json()
        encoder = RescaledEncoder(encoder, change)
    provenance = {
        "catalogue": name,
        "title": entry.title,
        "origin": dict(entry.origin),
        "licence": dict(entry.licence),
        "source_file": file.name,
        "source_sha256": digest,
        "modality": list(entry.modality),
        "intensity": None if normalisation is None else dict(normalisation),
        "spacing_mm": None if entry.spacing_mm is None else list(entry.spacing_mm),
        "orientation": entry.orientation,
        "share_loaded": fit.share,
        "not_loaded": [*fit.missing, *fit.reshaped],
        "adapted": fit.adapted,
        "ignored_tensors": len(ignored),
    }
    target = (weights_folder() if folder is None else Path(folder)) / f"{name}.safetensors"
    save_encoder(encoder, target, name=entry.encoder["architecture"], arguments=chosen, provenance=provenance)
    return ImportedWeights(entry, target, fit, chosen)


def _encoder_tensors(
    entry: CatalogueEntry, content: Mapping[str, Any], arguments: dict[str, Any], file: Path
) -> tuple[dict[str, Tensor], dict[str, Any], list[str], list[str]]:
    """Return the encoder's tensors, the encoder's arguments, and the ignored and the unexpected names of the file."""
    rules = entry.checkpoint
    tensors = tensors_of(content, rules["containers"], file)
    stated = rules["adaptation_plan"]
    plan = None if stated is None else NnsslPlan.of(content, stated["key"])
    if plan is not None:
        if plan.architecture != stated["architecture"]:
            raise WeightsError(
                f"its adaptation plan says {plan.architecture}, but {entry.name} is a {stated['architecture']}; "
                "import it under the name of an entry of that architecture"
            )
        tensors = plan.canonical(tensors, stated["encoder"], stated["stem"])
    mapped = map_names(tensors, rules)
    chosen = {**entry.encoder["arguments"], **arguments}
    all_arguments = {**ENCODERS[entry.encoder["architecture"]].arguments, **chosen}
    vit = ENCODERS[entry.encoder["architecture"]].encoder_class is ViTEncoder
    grid = None
    if vit and all_arguments.get("absolute_window") is not None:
        patch = all_arguments.get("patch_size", (8, 8, 8))
        positions = mapped.taken.get("eva.pos_embed")
        stated_window = None if plan is None else plan.window
        if positions is None:
            grid = [side // unit for side, unit in zip(all_arguments["absolute_window"], patch, strict=True)]
        else:
            grid = _learnt_grid(positions.shape[1], stated_window, patch)
        if "absolute_window" not in arguments:
            window = [side * unit for side, unit in zip(grid, patch, strict=True)]
            chosen["absolute_window"] = window[:: -1 if rules["axis_order"] == "zyx" else 1]
    taken = mapped.taken
    if rules["axis_order"] == "zyx":
        heads = all_arguments.get("num_heads", 6) if vit else None
        taken = permute_axes(taken, REVERSED, heads=heads, grid=grid)
    return taken, chosen, mapped.ignored, mapped.unexpected


def _learnt_grid(count: int, window: Sequence[int] | None, patch: Sequence[int]) -> list[int]:
    """Return how many positions were learnt along each axis: as the plan's window has tokens, else as a cube."""
    side = round(count ** (1 / 3))
    grids = [[side] * 3] if window is None else [[s // u for s, u in zip(window, patch, strict=True)], [side] * 3]
    fitting = next((grid for grid in grids if math.prod(grid) == count), None)
    if fitting is None:
        raise WeightsError(f"it has {count} learnt positions, which are no cube, and its plan's window is {window}")
    return fitting


def _other_entry(content: Mapping[str, Any], file: Path, entry: CatalogueEntry) -> str:
    """Return a sentence that names the catalogue's entries that the file fits, or nothing if there are none."""
    fitting = []
    for other in read_catalogue().values():
        if other is entry:
            continue
        try:
            tensors, arguments, _, _ = _encoder_tensors(other, content, {}, file)
        except (WeightsError, RuntimeError):  # tensors of another network may not even have the right dimensions
            continue
        with torch.device("meta"):
            encoder = create_encoder(other.encoder["architecture"], **arguments)
        if fit_tensors(encoder, tensors, ()).share == 1:
            fitting.append(other.name)
    return f"It fits {', '.join(fitting)}. " if fitting else ""
