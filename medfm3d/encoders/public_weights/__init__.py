"""The field's public weights: a catalogue, and the way from their files into medfm3d's encoders."""

from medfm3d.encoders.public_weights.catalogue import CatalogueEntry, catalogue_entry, read_catalogue
from medfm3d.encoders.public_weights.checkpoint_file import read_checkpoint
from medfm3d.encoders.public_weights.fitting import Fit
from medfm3d.encoders.public_weights.importing import ImportedWeights, import_weights
from medfm3d.encoders.public_weights.store import (
    PretrainedEncoder,
    find_encoder,
    imported_origin,
    imported_weights,
    weights_folder,
)
from medfm3d.encoders.public_weights.training_intensity import window_hu

__all__ = [
    "CatalogueEntry",
    "Fit",
    "ImportedWeights",
    "PretrainedEncoder",
    "catalogue_entry",
    "find_encoder",
    "import_weights",
    "imported_origin",
    "imported_weights",
    "read_catalogue",
    "read_checkpoint",
    "weights_folder",
    "window_hu",
]
