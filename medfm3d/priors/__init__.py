"""Priors: what anatomy knows of organs, and how surprising a mask is to it."""

from medfm3d.priors.adjacency_prior import AdjacencyPrior, touching_shares
from medfm3d.priors.body_frame import BodyFrame, find_body
from medfm3d.priors.check import check_prior
from medfm3d.priors.components_prior import ComponentsPrior, count_components
from medfm3d.priors.expected_components import Change, keep_expected_components
from medfm3d.priors.laterality_prior import LateralityPrior
from medfm3d.priors.location_prior import LocationPrior
from medfm3d.priors.organ_box import OrganBox
from medfm3d.priors.organ_scores import OrganScores
from medfm3d.priors.prior import NotFittedError, Prior, Surprise
from medfm3d.priors.prior_set import PRIORS, PriorSet, create_priors
from medfm3d.priors.reference_volumes import ReferenceVolume, reference_volume
from medfm3d.priors.scan_alignment import Alignment, align
from medfm3d.priors.topology_prior import TopologyPrior, topology
from medfm3d.priors.volume_prior import VolumeDistribution, VolumePrior, predictive_distribution, touches_edge
from medfm3d.volumes.organ_sides import organ_pairs, organ_side

__all__ = [
    "PRIORS",
    "AdjacencyPrior",
    "Alignment",
    "BodyFrame",
    "Change",
    "ComponentsPrior",
    "LateralityPrior",
    "LocationPrior",
    "NotFittedError",
    "OrganBox",
    "OrganScores",
    "Prior",
    "PriorSet",
    "ReferenceVolume",
    "Surprise",
    "TopologyPrior",
    "VolumeDistribution",
    "VolumePrior",
    "align",
    "check_prior",
    "count_components",
    "create_priors",
    "find_body",
    "keep_expected_components",
    "organ_pairs",
    "organ_side",
    "predictive_distribution",
    "reference_volume",
    "topology",
    "touches_edge",
    "touching_shares",
]
