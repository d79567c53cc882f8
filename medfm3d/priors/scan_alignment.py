"""How a scan lies to the scans of the support set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from medfm3d.priors.body_frame import THUMBNAIL_MM, BodyFrame

OVERLAP = 0.5  # of the smaller body that must lie within the other one
# Below this two scans show different parts of the body: the 870 pairs of the development scans of head-and-neck CT
# correlate with 0.27 or more, half of them with 0.41.
LEAST_CORRELATION = 0.2
SHARPNESS = 0.05  # difference in correlation that makes a support scan count e times less than the best one


@dataclass(frozen=True, eq=False)
class Alignment:
    """Where a query's points lie in one support scan: `scale * point + shift`, along R, A and S in millimetres.

    Attributes:
        scale, shift_mm: (3,) each.
        weight: how much to trust this support scan; all weights of a query add up to 1.
        correlation: of the two bodies; 1 where there is only the scans' boxes to go by.
    """

    scale: np.ndarray
    shift_mm: np.ndarray
    weight: float
    correlation: float

    def to_support(self, points_mm: np.ndarray) -> np.ndarray:
        """Return the query's points (..., 3) in the support scan."""
        return points_mm * self.scale + self.shift_mm

    def to_query(self, points_mm: np.ndarray) -> np.ndarray:
        """Return the support scan's points (..., 3) in the query."""
        return (points_mm - self.shift_mm) / self.scale


def align(query: BodyFrame, support: Sequence[BodyFrame]) -> list[Alignment | None]:
    """Align a query with every support scan; None where one cannot be aligned.

    Bodies are shifted onto each other where their masked normalised cross-correlation (Padfield, IEEE TIP 2012) is
    greatest, at 12 mm, with no change of size. Scans that the body fills, crops around an organ, are aligned by their
    boxes, shift and size; a crop and a body are not aligned.

    This frame was chosen by leave-one-out on development splits, by how far an organ's centre lies from where K = 5
    random support scans put it. Head-and-neck CT, cut at different heights and often truncated around the target: 14
    mm; scan's box 21 mm, body's box 23 mm, top of the body 38 mm, profile of the outline over height 31 to 54 mm. MR
    crops of the hippocampus: boxes 1.9 mm, centres of the boxes 2.2 mm, correlation 2.3 mm, low corners 3.7 mm.
    """
    found: list[tuple[np.ndarray, np.ndarray, float] | None] = []
    for case in support:
        if case.kind != query.kind:
            found.append(None)
        elif query.kind == "scan":
            scale = case.size_mm / query.size_mm
            found.append((scale, case.low_mm - query.low_mm * scale, 1.0))
        else:
            shift, correlation = _shift_mm(query, case)
            found.append((np.ones(3), shift, correlation) if correlation >= LEAST_CORRELATION else None)
    best = max((pair[2] for pair in found if pair), default=0.0)
    weights = [np.exp((pair[2] - best) / SHARPNESS) if pair else 0.0 for pair in found]
    return [
        pair and Alignment(pair[0], pair[1], float(weight / sum(weights)), pair[2])
        for pair, weight in zip(found, weights, strict=True)
    ]


def _shift_mm(query: BodyFrame, case: BodyFrame) -> tuple[np.ndarray, float]:
    """Shift from query to case, and the correlation there."""
    place, correlation = _masked_correlation(query.thumbnail.array, case.thumbnail.array)
    # Voxel i of the case lies on voxel i + place of the query.
    return case.thumbnail.affine[:3, 3] - query.thumbnail.affine[:3, 3] - place * THUMBNAIL_MM, correlation


def _masked_correlation(fixed: np.ndarray, moving: np.ndarray) -> tuple[np.ndarray, float]:
    """Shift of `moving`, in fractions of voxels, at which it correlates best with `fixed`; 0 is masked in both.

    scikit-image's `phase_cross_correlation` does the same to whole voxels and does not return the correlation.
    """
    full = [a + b - 1 for a, b in zip(fixed.shape, moving.shape, strict=True)]
    sides = [fft.next_fast_len(side, real=True) for side in full]

    def transformed(array: np.ndarray) -> np.ndarray:
        return fft.rfftn(array.astype(np.float32), sides)

    def correlated(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return fft.irfftn(a * b, sides)[tuple(slice(side) for side in full)]

    f, m = fixed / 255.0, moving[::-1, ::-1, ::-1] / 255.0
    f_mask, m_mask = transformed(f > 0), transformed(m > 0)
    f_hat, m_hat = transformed(f), transformed(m)
    overlap = np.maximum(correlated(f_mask, m_mask), 1e-3)
    f_sum, m_sum = correlated(f_hat, m_mask), correlated(f_mask, m_hat)
    covariance = correlated(f_hat, m_hat) - f_sum * m_sum / overlap
    f_variance = (correlated(transformed(f**2), m_mask) - f_sum**2 / overlap).clip(min=0)
    m_variance = (correlated(f_mask, transformed(m**2)) - m_sum**2 / overlap).clip(min=0)
    spread = np.sqrt(f_variance * m_variance)
    correlation = np.where(spread > 1e-3 * spread.max(), covariance / np.maximum(spread, 1e-9), 0)
    correlation[overlap < OVERLAP * min((fixed > 0).sum(), (moving > 0).sum())] = -1
    peak = np.array(np.unravel_index(correlation.argmax(), full))
    return peak + _subvoxel(correlation, peak) - (np.array(moving.shape) - 1), float(correlation.max())


def _subvoxel(correlation: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """Offset of the top of the parabola through the peak and its neighbours, along each axis."""
    offset = np.zeros(3)
    for axis in range(3):
        if 0 < peak[axis] < correlation.shape[axis] - 1:
            step = np.eye(3, dtype=int)[axis]
            before, at, after = (correlation[tuple(peak + sign * step)] for sign in (-1, 0, 1))
            curvature = before - 2 * at + after
            if min(before, after) > -1 and curvature < 0:
                offset[axis] = 0.5 * (before - after) / curvature
    return offset
