"""Classifiers of frozen features, learnt on some cases and judged on others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

NEIGHBOURS = 20  # as in the k-NN evaluation of Caron et al. 2021


@dataclass(frozen=True)
class CaseFeatures:
    """Features (N, C) of labelled voxels of one case, and their label values (N,)."""

    features: np.ndarray
    names: np.ndarray


@dataclass(frozen=True)
class ProbeScore:
    """What a probe reaches on cases it has not seen: shares from 0 to 1."""

    accuracy: float
    macro_f1: float


def make_probe(kind: str) -> Pipeline:
    """Return the classifier "linear" (multinomial logistic regression) or "knn" (20 neighbours by cosine)."""
    if kind == "linear":
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    if kind == "knn":
        neighbours = KNeighborsClassifier(NEIGHBOURS, weights="distance", metric="cosine", algorithm="brute")
        return make_pipeline(StandardScaler(), neighbours)
    raise ValueError(f"unknown probe {kind!r}: linear or knn")


def score_probe(kind: str, training: Sequence[CaseFeatures], testing: Sequence[CaseFeatures]) -> ProbeScore:
    """Fit a probe to the voxels of some cases and judge it on those of others."""
    probe = make_probe(kind)
    probe.fit(np.concatenate([c.features for c in training]), np.concatenate([c.names for c in training]))
    said = probe.predict(np.concatenate([c.features for c in testing]))
    truth = np.concatenate([c.names for c in testing])
    return ProbeScore(float(accuracy_score(truth, said)), float(f1_score(truth, said, average="macro")))


def split_cases(count: int, draw: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the numbers of the cases to learn from and of those to judge on, half of them each."""
    order = np.random.default_rng([seed, draw]).permutation(count).tolist()
    return order[: count // 2], order[count // 2 :]
