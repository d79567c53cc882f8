"""What is compared: networks of the same sizes and the loss of a training step of each."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from monai.networks.nets import MaskedAutoEncoderViT
from torch import Tensor, nn
from torch.nn import functional as F

from medfm3d.encoders import ENCODERS, create_encoder, patchify
from medfm3d.pretraining import MaskedNetwork, create_masked_network, decay_groups, patch_scale, seeded_generator
from pretraining_benchmark.nnssl_recipe import NnsslMAE


@dataclass(frozen=True)
class Sizes:
    """What the networks have in common.

    Attributes:
        vit: name of the ViT encoder.
        swin: name of the Swin encoder.
        window: side of the cube in voxels.
        batch: windows of a step.
        mask_ratio: share that is hidden.
        decoder_dim: token length of the masked autoencoders' decoder.
        decoder_depth: its blocks.
        decoder_heads: its heads.
        seed: of weights, windows and masks.
    """

    vit: str = "vit_tiny"
    swin: str = "swin_tiny"
    window: int = 96
    batch: int = 2
    mask_ratio: float = 0.75
    decoder_dim: int = 96
    decoder_depth: int = 2
    decoder_heads: int = 2
    seed: int = 0


def _masked(sizes: Sizes, method: str, encoder: str) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    decoder = {name: getattr(sizes, name) for name in ("decoder_dim", "decoder_depth", "decoder_heads")}
    network = create_masked_network(method, create_encoder(encoder), sizes.mask_ratio, decoder)
    return network, lambda x: _our_loss(network, x, sizes.seed)


def _our_loss(network: MaskedNetwork, x: Tensor, seed: int) -> Tensor:
    return network.loss(x, network.draw_mask(x, seeded_generator(seed)))  # as in training, drawing included


def _monai(sizes: Sizes) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """MONAI's network, whose feed-forward layers get the width (4 x) at which its blocks have the weights of ours."""
    size = ENCODERS[sizes.vit].arguments
    network = MaskedAutoEncoderViT(
        in_channels=1,
        img_size=(sizes.window,) * 3,
        patch_size=create_encoder(sizes.vit).patch_size,
        hidden_size=size["embed_dim"],
        mlp_dim=4 * size["embed_dim"],
        num_layers=size["depth"],
        num_heads=size["num_heads"],
        masking_ratio=sizes.mask_ratio,
        decoder_hidden_size=sizes.decoder_dim,
        decoder_mlp_dim=4 * sizes.decoder_dim,
        decoder_num_layers=sizes.decoder_depth,
        decoder_num_heads=sizes.decoder_heads,
    )

    def loss(x: Tensor) -> Tensor:
        prediction, mask = network(x)  # of all patches; 1 where hidden
        patches = patchify(x, network.patch_size)
        mean, deviation = patch_scale(patches)
        error = F.mse_loss(prediction, (patches - mean) / deviation, reduction="none").mean(dim=-1)
        return (error * mask).sum() / mask.sum()

    return network, loss


def _nnssl(sizes: Sizes) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    size = ENCODERS[sizes.vit].arguments
    network = NnsslMAE(
        (sizes.window,) * 3,
        create_encoder(sizes.vit).patch_size,
        size["embed_dim"],
        size["depth"],
        size["num_heads"],
        sizes.mask_ratio,
    )
    return network, network.loss


CONTENDERS: dict[str, Callable[[Sizes], tuple[nn.Module, Callable[[Tensor], Tensor]]]] = {
    "vit-mae": lambda sizes: _masked(sizes, "mae", sizes.vit),
    "vit-simmim": lambda sizes: _masked(sizes, "simmim", sizes.vit),
    "vit-mae-monai": _monai,
    "vit-mae-nnssl": _nnssl,
    "swin-mae": lambda sizes: _masked(sizes, "mae", sizes.swin),
    "swin-simmim": lambda sizes: _masked(sizes, "simmim", sizes.swin),
}
MEANINGS = {
    "vit-mae": "medfm3d's masked autoencoder",
    "vit-simmim": "full-compute masking of the same encoder",
    "vit-mae-monai": "MONAI's MaskedAutoEncoderViT",
    "vit-mae-nnssl": "nnssl's recipe for Primus, rebuilt",
    "swin-mae": "medfm3d's masked autoencoder",
    "swin-simmim": "full-compute masking of the same encoder",
}


class TrainingStep:
    """One step of a contender's training after another: forward, backward and AdamW on a batch of random windows.

    Args:
        name: a key of `CONTENDERS`.
        sizes: what all have in common.
        device: where it runs.
    """

    def __init__(self, name: str, sizes: Sizes, device: torch.device) -> None:
        torch.manual_seed(sizes.seed)
        self.network, self._loss = CONTENDERS[name](sizes)
        self.network.to(device).train()
        self.device = device
        self.windows = torch.randn(sizes.batch, 1, *[sizes.window] * 3, device=device)
        self.optimizer = torch.optim.AdamW(decay_groups(self.network, 0.05), lr=1e-4, betas=(0.9, 0.95))

    def __call__(self) -> None:
        """Do a step and wait for its end."""
        self.optimizer.zero_grad()
        self._loss(self.windows).backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def weights(self) -> int:
        """Return the number of trained weights."""
        return sum(weight.numel() for weight in self.network.parameters() if weight.requires_grad)
