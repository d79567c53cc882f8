"""iBOT: the student guesses what the teacher says of the patches that are hidden from the student."""

import torch.nn.functional as F
from torch import Tensor


def ibot_loss(student: Tensor, targets: Tensor, sample: Tensor, samples: int, temperature: float = 0.1) -> Tensor:
    """Cross-entropy at hidden cells, each sample's cells weighing 1 together.

    Zhou et al. 2022 (arXiv 2111.07832), equation 2, with the weighting of Oquab et al. 2023.

    Args:
        student: logits (M, K) of the M hidden cells of a batch.
        targets: distributions (M, K) of the same cells, from the teacher, which sees them; without gradient.
        sample: (M,) the sample that each cell belongs to.
        samples: how many samples there are, those without a hidden cell included.
        temperature: of the student.

    Returns:
        The sum over samples divided by `samples`, a scalar; 0 where nothing is hidden.
    """
    entropy = -(targets * F.log_softmax(student.float() / temperature, dim=-1)).sum(dim=-1)
    return (entropy / sample.bincount(minlength=samples)[sample]).sum() / samples
