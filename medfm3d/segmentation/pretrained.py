"""Pretrained weights into a segmenter."""

from pathlib import Path

from medfm3d.encoders import WeightsError, file_sha256, load_weights, read_header
from medfm3d.segmentation.segmenter import Segmenter


def load_pretrained(
    segmenter: Segmenter, encoder_weights: str | Path | None, decoder_weights: str | Path | None = None
) -> Segmenter:
    """Load pretrained encoder and decoder weights, freeze what the segmenter's method does not train, and return it.

    Args:
        segmenter: a segmenter with fresh weights; changed in place.
        encoder_weights: file written by `medfm3d.encoders.save_encoder`; None keeps the fresh weights.
        decoder_weights: file written by `medfm3d.encoders.save_weights` for the decoder; None keeps the fresh weights.

    Raises:
        WeightsError: if a file is unusable or does not fit; if the method does not train the decoder and there are no
            pretrained decoder weights, since frozen random features help nobody.
    """
    if encoder_weights is not None:
        load_weights(segmenter.encoder, encoder_weights, names=segmenter.encoder_names)
        segmenter.method.encoder_loaded(segmenter.encoder)
    if decoder_weights is not None:
        load_weights(segmenter.decoder, decoder_weights)
        trained_with = read_header(decoder_weights)["provenance"].get("encoder_sha256")
        if trained_with and encoder_weights is not None and trained_with != file_sha256(encoder_weights):
            raise WeightsError(
                f"{decoder_weights}: was pretrained on another encoder than {encoder_weights}; name a pair that "
                "belongs together, or no decoder weights"
            )
    elif segmenter.method.needs_pretrained_decoder:
        raise WeightsError(
            f"method {segmenter.method.name} keeps the decoder frozen, so it needs pretrained decoder weights; name "
            "them, or use a method that trains the decoder"
        )
    segmenter.method.freeze(segmenter)
    return segmenter
