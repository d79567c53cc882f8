"""What a segmenter says of one scan, and where that scan lies: what priors on logits work from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medfm3d.priors.body_frame import BodyFrame
from medfm3d.volumes import Volume


@dataclass(frozen=True, eq=False)
class OrganScores:
    """Logits of a scan on the grid on which the network works.

    Attributes:
        logits: (1 + organs, I, J, K) float32, background first.
        affine: 4 x 4, from voxels to RAS millimetres; axes towards right, anterior and superior.
        organs: names, in the order of the channels after background.
        frame: where the body lies in the scan, if it was looked for.
    """

    logits: np.ndarray
    affine: np.ndarray
    organs: Sequence[str]
    frame: BodyFrame | None = None

    @cached_property
    def winners(self) -> np.ndarray:
        """Channel with the greatest logit of each voxel, (I, J, K)."""
        return self.logits.argmax(axis=0).astype(np.uint16)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, like them."""
        shifted = np.exp(self.logits - self.logits.max(axis=0, keepdims=True))
        shifted /= shifted.sum(axis=0, keepdims=True)
        return shifted

    @property
    def label(self) -> Volume:
        """The mask that the logits stand for, with channel numbers as ids."""
        return Volume(self.winners, self.affine)

    def channel(self, organ: str) -> int:
        """Return the channel of an organ, which is its id in `label`."""
        return 1 + list(self.organs).index(organ)

    def mask(self, organ: str) -> np.ndarray:
        """Return where an organ wins, (I, J, K) bool."""
        return self.winners == self.channel(organ)

    def plus(self, offsets: dict[str, np.ndarray], weight: float = 1.0) -> "OrganScores":
        """Return the scores with a prior's offsets added to the organs' logits."""
        logits = self.logits.copy()
        for organ, offset in offsets.items():
            logits[self.channel(organ)] += np.float32(weight) * np.asarray(offset, dtype=np.float32)
        return OrganScores(logits, self.affine, self.organs, self.frame)
