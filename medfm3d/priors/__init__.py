"""Priors: what anatomy knows of organs, and how surprising a mask is to it."""

from medfm3d.priors.check import check_prior
from medfm3d.priors.components_prior import ComponentsPrior, count_components
from medfm3d.priors.expected_components import Change, keep_expected_components
from medfm3d.priors.prior import NotFittedError, Prior, Surprise
from medfm3d.priors.prior_set import PRIORS, PriorSet
from medfm3d.priors.reference_volumes import ReferenceVolume, reference_volume
from medfm3d.priors.volume_prior import VolumeDistribution, VolumePrior, predictive_distribution, touches_edge

__all__ = [
    "PRIORS",
    "Change",
    "ComponentsPrior",
    "NotFittedError",
    "Prior",
    "PriorSet",
    "ReferenceVolume",
    "Surprise",
    "VolumeDistribution",
    "VolumePrior",
    "check_prior",
    "count_components",
    "keep_expected_components",
    "predictive_distribution",
    "reference_volume",
    "touches_edge",
]
