"""Student and teacher: one encoder learns from the moving average of itself."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from medfm3d.encoders import Encoder
from medfm3d.pretraining.dino.dino_loss import dino_loss
from medfm3d.pretraining.dino.head import PrototypeHead
from medfm3d.pretraining.dino.ibot_loss import ibot_loss
from medfm3d.pretraining.dino.koleo_loss import koleo_loss
from medfm3d.pretraining.dino.sinkhorn import sinkhorn_knopp


class DistillationLosses(NamedTuple):
    """The parts of a step's loss, unweighted scalars, and what the teacher said.

    Attributes:
        dino: of whole views.
        ibot: of hidden cells.
        koleo: of the student's view features; None if not asked for.
        view_features: (G x B, embed_dim) of the teacher, without gradient.
        cell_features: (G x B, N, embed_dim) of the teacher, without gradient.
        view_logits: (G x B, K) of the teacher, without gradient.
    """

    dino: Tensor
    ibot: Tensor
    koleo: Tensor | None
    view_features: Tensor
    cell_features: Tensor
    view_logits: Tensor


class Branch(nn.Module):
    """An encoder with its heads, as student and teacher both have it."""

    def __init__(self, encoder: Encoder, separate_heads: bool, **head: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.view_head = PrototypeHead(encoder.channels[-1], **head)
        self.cell_head = PrototypeHead(encoder.channels[-1], **head) if separate_heads else self.view_head


class SelfDistillation(nn.Module):
    """DINOv2 on volumes, for any encoder of the contract that takes mask tokens.

    A view's feature is the mean over the cells of the coarsest map, not a class token: public weights of Primus and
    Swin have no such token, their keys stay as they are, and what is pooled are the very features that segmentation
    uses. Hidden cells are those of the coarsest map that a hidden mask unit covers. The teacher is the exponential
    moving average of the student, sees the global views whole, and has no gradient.

    Sources: Caron et al. 2021, DINO (arXiv 2104.14294); Zhou et al. 2022, iBOT (arXiv 2111.07832); Oquab et al. 2023,
    DINOv2 (arXiv 2304.07193).

    Args:
        encoder: the student's; the teacher starts as its copy.
        prototypes: number of prototypes of each head.
        hidden_dim: width of the heads.
        bottleneck_dim: length of what the heads compare with prototypes.
        separate_heads: whole views and cells have heads of their own, as in DINOv2; one for both, as in iBOT, if False.
        student_temperature: divides the student's logits.

    Raises:
        ValueError: if the encoder's mask unit is no whole number of cells of its coarsest map.
    """

    def __init__(
        self,
        encoder: Encoder,
        prototypes: int = 4096,
        hidden_dim: int = 1024,
        bottleneck_dim: int = 256,
        separate_heads: bool = True,
        student_temperature: float = 0.1,
    ) -> None:
        super().__init__()
        if any(side % encoder.strides[-1] for side in encoder.patch_size):
            raise ValueError(
                f"a mask unit of {encoder.patch_size} voxels is no whole number of cells of the coarsest map, of "
                f"{encoder.strides[-1]} voxels: use an encoder whose units are"
            )
        self.student = Branch(
            encoder, separate_heads, prototypes=prototypes, hidden_dim=hidden_dim, bottleneck_dim=bottleneck_dim
        )
        self.teacher = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.mask_token = nn.Parameter(torch.empty(encoder.token_dim))
        nn.init.normal_(self.mask_token, std=0.02)
        self.student_temperature = student_temperature

    def forward(self, x: Tensor) -> Tensor:
        """Return the teacher's features of a window (B, C, D, H, W): its coarsest map (B, channels, d, h, w)."""
        return self.teacher.encoder(x)[-1]

    def train(self, mode: bool = True) -> "SelfDistillation":
        """Set the student's mode; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def losses(
        self, views: Tensor, crops: Tensor, mask: Tensor, teacher_temperature: float, *, koleo: bool = True
    ) -> DistillationLosses:
        """Return the parts of the loss of a batch.

        Args:
            views: (B, G, C, D, H, W) global views.
            crops: (B, L, C, d, h, w) local ones; L may be 0.
            mask: (G x B, N) bool, True where a unit of a global view is hidden, all samples of the first view first.
            teacher_temperature: of the targets.
            koleo: whether to compute that part.
        """
        batch, seen = views.shape[:2]
        flat = views.transpose(0, 1).flatten(0, 1)
        with torch.no_grad():
            teacher_map = self.teacher.encoder(flat)[-1]
            teacher_cells = teacher_map.flatten(2).transpose(1, 2)
            teacher_views = teacher_cells.mean(dim=1)
            view_logits = self.teacher.view_head(teacher_views)
            targets = sinkhorn_knopp(view_logits, teacher_temperature).unflatten(0, (seen, batch))
            hidden = hidden_cells(mask, self.student.encoder.unit_grid(flat.shape[2:]), teacher_map.shape[2:])
            cell_targets = sinkhorn_knopp(self.teacher.cell_head(teacher_cells[hidden]), teacher_temperature)

        cells = self.student.encoder.forward_masked(flat, mask, self.mask_token)[-1].flatten(2).transpose(1, 2)
        features = cells.mean(dim=1)
        pooled = [features]
        if crops.shape[1]:
            local = self.student.encoder(crops.transpose(0, 1).flatten(0, 1))[-1]
            pooled.append(local.flatten(2).mean(dim=2))
        logits = self.student.view_head(torch.cat(pooled)).unflatten(0, (-1, batch))
        return DistillationLosses(
            dino=dino_loss(logits, targets, self.student_temperature),
            ibot=ibot_loss(
                self.student.cell_head(cells[hidden]),
                cell_targets,
                hidden.nonzero()[:, 0],
                len(flat),
                self.student_temperature,
            ),
            koleo=torch.stack([koleo_loss(view) for view in features.chunk(seen)]).mean() if koleo else None,
            view_features=teacher_views,
            cell_features=teacher_cells,
            view_logits=view_logits,
        )

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher's weights towards the student's: momentum x teacher + (1 - momentum) x student."""
        average = get_ema_multi_avg_fn(momentum)
        average(list(self.teacher.parameters()), list(self.student.parameters()), None)
        for kept, new in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            kept.copy_(new)

    def last_layers(self) -> list[nn.Parameter]:
        """Return the student's prototypes, which DINO freezes at first."""
        heads = {self.student.view_head, self.student.cell_head}
        return [head.prototypes for head in heads]


def hidden_cells(mask: Tensor, units: Sequence[int], cells: Sequence[int]) -> Tensor:
    """Return a (B, cells) mask of the cells of a map, row-major, from one (B, N) of mask units."""
    spread = mask.unflatten(1, tuple(units))
    for axis, (few, many) in enumerate(zip(units, cells, strict=True)):
        spread = spread.repeat_interleave(many // few, dim=axis + 1)
    return spread.flatten(1)
