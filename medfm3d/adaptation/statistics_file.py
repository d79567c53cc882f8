"""Feature statistics of pretraining scans, in a file beside an encoder's weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medfm3d.adaptation.domain_gap import FeatureStatistics
from medfm3d.encoders import WeightsError, file_sha256
from medfm3d.volumes import write_json


def statistics_file(encoder_weights: str | Path) -> Path:
    """Return where the statistics of a weights file lie: NAME.safetensors has NAME_statistics.json beside it."""
    weights = Path(encoder_weights)
    return weights.with_name(f"{weights.stem}_statistics.json")


def write_statistics(
    encoder_weights: str | Path, statistics: Mapping[str, FeatureStatistics], provenance: Mapping[str, Any]
) -> Path:
    """Write the statistics of each modality; they name the weights they belong to by SHA-256.

    Args:
        encoder_weights: the encoder's weights file.
        statistics: by modality.
        provenance: of which scans, by which command; any JSON values.
    """
    content = {
        "encoder_sha256": file_sha256(encoder_weights),
        "provenance": dict(provenance),
        "modalities": {modality: measured.to_json() for modality, measured in statistics.items()},
    }
    return write_json(content, statistics_file(encoder_weights))


def read_statistics(encoder_weights: str | Path, modality: str) -> FeatureStatistics | None:
    """Return the statistics of pretraining scans of a modality; None if there is no file, or it lacks the modality.

    Raises:
        WeightsError: if the file belongs to other weights.
    """
    file = statistics_file(encoder_weights)
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    if content["encoder_sha256"] != file_sha256(encoder_weights):
        raise WeightsError(f"{file}: belongs to other weights than {encoder_weights}; measure anew, or remove it")
    found = content["modalities"]
    return FeatureStatistics.from_json(found[modality]) if modality in found else None
