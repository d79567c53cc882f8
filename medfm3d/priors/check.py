"""The check that any prior must pass."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from medfm3d.priors.body_frame import find_body
from medfm3d.priors.organ_scores import OrganScores
from medfm3d.priors.prior import NotFittedError, Prior
from medfm3d.volumes import Volume

SURE = 4.0  # logit of the support's own masks in the check: a network that is sure to 0.98


def check_prior(
    prior: Prior, labels: Sequence[Volume], organs: Mapping[str, int], images: Sequence[Volume] | None = None
) -> None:
    """Check a prior, not fitted yet, against its contract on a support set.

    It checks: an unfitted prior refuses to speak; `fit` returns the prior; it speaks twice alike, leaves the mask as it
    is, and its p-values lie between 0 and 1; a support mask is no surprise (p above 0.01); what went through JSON says
    the same; log priors are no NaN; what it adds to logits has their shape, is finite, is left out of organs that it
    does not know, and leaves a support mask of which the network is sure as it is, but for 5 % of an organ's voxels. A
    prior that needs images refuses to speak without.

    Args:
        prior: not fitted.
        labels: label maps of the support set, in RAS orientation.
        organs: ids of the organs in them.
        images: the scans; may be left out for priors that do without.

    Raises:
        AssertionError: naming the promise that is broken.
    """
    scans: Sequence[Volume | None] = [None] * len(labels) if images is None else images
    try:
        prior.surprise(labels[0], organs, scans[0])
    except NotFittedError:
        pass
    else:
        raise AssertionError(f"{prior.name}: an unfitted prior must refuse to speak")
    assert prior.fit(labels, organs, images) is prior, f"{prior.name}: fit must return the prior itself"
    if prior.needs_image:
        try:
            prior.surprise(labels[0], organs)
        except ValueError:
            pass
        else:
            raise AssertionError(f"{prior.name}: needs images, and must refuse to speak without")
    for label, image in zip(labels, scans, strict=True):
        before = label.array.copy()
        said = prior.surprise(label, organs, image)
        assert said == prior.surprise(label, organs, image), f"{prior.name}: must say the same twice"
        assert np.array_equal(before, label.array), f"{prior.name}: must not change the mask"
        assert {surprise.organ for surprise in said} <= set(organs), f"{prior.name}: speaks of unknown organs"
        for surprise in said:
            assert surprise.prior == prior.name and 0 <= surprise.p_value <= 1, f"{prior.name}: {surprise}"
            assert surprise.p_value > prior.surprising, (
                f"{prior.name}: surprised by its own support set: {surprise.text}"
            )
        again = type(prior).from_json(json.loads(json.dumps(prior.to_json())))
        assert again.surprise(label, organs, image) == said, (
            f"{prior.name}: must say the same after a trip through JSON"
        )
        _check_offsets(prior, again, label, organs, image)
    assert all(not np.isnan(prior.log_prior(organ, 1.0)) for organ in prior.organs_), f"{prior.name}: NaN"


def _check_offsets(prior: Prior, again: Prior, label: Volume, organs: Mapping[str, int], image: Volume | None) -> None:
    masks = np.stack([label.array == number for number in organs.values()])
    logits = SURE * np.concatenate([~masks.any(axis=0, keepdims=True), masks]).astype(np.float32)
    frame = None if image is None else find_body(image)
    scores = OrganScores(logits, label.affine, list(organs), frame)
    offsets = prior.logit_offsets(scores)
    assert set(offsets) <= set(organs), f"{prior.name}: adds to unknown organs"
    repeated = again.logit_offsets(scores)
    for organ, offset in offsets.items():
        assert np.broadcast_shapes(np.shape(offset), label.shape) == label.shape, f"{prior.name}: {np.shape(offset)}"
        assert np.isfinite(offset).all(), f"{prior.name}: adds what is not finite"
        assert np.array_equal(repeated[organ], offset), f"{prior.name}: must add the same after a trip through JSON"
    after = scores.plus(offsets)
    for organ in organs:
        before, now = scores.mask(organ), after.mask(organ)
        changed = int((before != now).sum())
        assert changed <= 0.05 * before.sum(), f"{prior.name}: changes {changed} of {before.sum()} voxels of {organ}"
