"""The check that any prior must pass."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from medfm3d.priors.prior import NotFittedError, Prior
from medfm3d.volumes import Volume


def check_prior(prior: Prior, labels: Sequence[Volume], organs: Mapping[str, int]) -> None:
    """Check a prior, not fitted yet, against its contract on a support set.

    It checks: an unfitted prior refuses to speak; `fit` returns the prior; it speaks twice alike, leaves the mask as it
    is, and its p-values lie between 0 and 1; a support mask is no surprise (p above 0.01); what went through JSON says
    the same; log priors are no NaN.

    Raises:
        AssertionError: naming the promise that is broken.
    """
    try:
        prior.surprise(labels[0], organs)
    except NotFittedError:
        pass
    else:
        raise AssertionError(f"{prior.name}: an unfitted prior must refuse to speak")
    assert prior.fit(labels, organs) is prior, f"{prior.name}: fit must return the prior itself"
    for label in labels:
        before = label.array.copy()
        said = prior.surprise(label, organs)
        assert said == prior.surprise(label, organs), f"{prior.name}: must say the same twice"
        assert np.array_equal(before, label.array), f"{prior.name}: must not change the mask"
        assert {surprise.organ for surprise in said} <= set(organs), f"{prior.name}: speaks of unknown organs"
        for surprise in said:
            assert surprise.prior == prior.name and 0 <= surprise.p_value <= 1, f"{prior.name}: {surprise}"
            assert surprise.p_value > 0.01, f"{prior.name}: surprised by its own support set: {surprise.text}"
        again = type(prior).from_json(json.loads(json.dumps(prior.to_json())))
        assert again.surprise(label, organs) == said, f"{prior.name}: must say the same after a trip through JSON"
    assert all(not np.isnan(prior.log_prior(organ, 1.0)) for organ in organs), f"{prior.name}: log prior is NaN"
