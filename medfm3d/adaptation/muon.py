"""The optimiser of adaptation: AdamW, and Muon for the weights of convolutions that ask for it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

LEAST_SIDE = 4  # of a weight as a matrix; the step of a narrower one has few directions to make equal
ADAMW_RMS = 0.2  # root mean square of AdamW's steps at learning rate 1 (Liu et al. 2025)
STEPS, LINEAR, CUBIC, QUINTIC = 5, 3.4445, -4.7750, 2.0315  # of Jordan's iteration


class MuonAdamW(AdamW):
    """AdamW, except for weights in groups with `muon` true that are matrices: their steps are made orthogonal.

    Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) takes the Nesterov momentum of a weight's
    gradient, as a matrix of output channels by everything else, and replaces it by the nearest matrix with orthogonal
    rows or columns: directions in which the gradient is small count as much as those in which it is large. Its length
    is brought to that of AdamW's steps (Liu et al. 2025, arXiv:2502.16982), so that one learning rate serves both.
    Biases, norms and weights that are narrower than four as a matrix are AdamW's.

    The optimisers of torch and timm do the same in bfloat16, which took 0.49 s of each step for the decoder's weights
    with the instructions of a processor without bfloat16, where this takes 0.01.

    Args:
        params: weights, or groups of them with `lr` and `muon`.
        lr: learning rate of groups that state none.
        betas: of AdamW; the first is also Muon's momentum.
        eps: of AdamW.
        weight_decay: of both, decoupled.
        muon: whether groups that do not say so take Muon.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        muon: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
        self.defaults["muon"] = muon
        for group in self.param_groups:
            group.setdefault("muon", muon)
        # Fused AdamW unscales gradients of mixed precision itself; momenta need them unscaled before.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Take a step; return what the closure does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        taken: list[tuple[nn.Parameter, Tensor]] = []
        for group in self.param_groups:
            for weight in group["params"] if group["muon"] else ():
                if weight.grad is not None and is_matrix(weight):
                    self._orthogonal_step(weight, weight.grad, group)
                    taken.append((weight, weight.grad))
                    weight.grad = None  # AdamW passes over it
        super().step()
        for weight, gradient in taken:
            weight.grad = gradient
        return loss

    def _orthogonal_step(self, weight: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:  # under AdamW's names: it loads the state of all weights
            state["step"], state["exp_avg"] = torch.tensor(0.0), torch.zeros_like(gradient)
        beta = group["betas"][0]
        state["step"] += 1
        state["exp_avg"].lerp_(gradient, 1 - beta)
        step = orthogonalise(gradient.lerp(state["exp_avg"], beta).flatten(1))
        length = ADAMW_RMS * max(step.shape) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(step.reshape(weight.shape), alpha=-group["lr"] * length)


def is_matrix(weight: Tensor) -> bool:
    """Return whether a weight, as a matrix of output channels by everything else, has both sides of four or more."""
    return weight.ndim >= 2 and min(len(weight), weight[0].numel()) >= LEAST_SIDE


def orthogonalise(matrix: Tensor) -> Tensor:
    """Bring singular values to between 0.7 and 1.2 by five steps of Newton-Schulz, the more so the less they differ.

    Each step is an odd polynomial of degree five in the singular values. All of them commute with the Gram matrix of
    the shorter side, so they are gathered there and applied to the matrix once, at a third of the time that the usual
    order takes for the decoder's weights.

    Args:
        matrix: (M, N), in float32: squares of singular values below 1e-3 of the largest are lost in less.

    Returns:
        (M, N).
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonalise(matrix.mT).mT
    wide = matrix / matrix.norm().clamp_min(1e-7)
    gram = wide @ wide.mT
    gathered = torch.eye(len(gram), device=gram.device, dtype=gram.dtype)
    for _ in range(STEPS):
        polynomial = torch.addmm(gram, gram, gram, beta=CUBIC, alpha=QUINTIC)
        polynomial.diagonal().add_(LINEAR)
        gathered = polynomial @ gathered
        gram = polynomial @ gram @ polynomial
    return gathered @ wide
