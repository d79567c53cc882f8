"""Step time of masked pretraining: medfm3d's masked autoencoder against MONAI's of the same size, in one run.

A step is forward, backward and AdamW on one batch of random windows. The two take turns, so that a machine that is
busy for a while slows both. "Same size" means: window, patch, batch, mask ratio, embedding, depth and heads of encoder
and decoder; MONAI's feed-forward layer gets the width (4 x) at which its blocks have about the weights of ours.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from monai.networks.nets import MaskedAutoEncoderViT
from torch import nn
from torch.nn import functional as F

from medfm3d.encoders import ENCODERS, create_encoder, patchify
from medfm3d.pretraining import MaskedAutoencoder, decay_groups, patch_scale, seeded_generator


def main() -> None:
    """Measure, print and write what was measured."""
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    windows = torch.randn(arguments.batch, 1, *[arguments.window] * 3, device=device)
    ours, monai = build_ours(arguments).to(device), build_monai(arguments).to(device)
    steps = {
        "medfm3d": training_step(ours, lambda: ours_loss(ours, windows)),
        "monai": training_step(monai, lambda: monai_loss(monai, windows)),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(arguments.warmup + arguments.repetitions):
        for name, step in steps.items():
            elapsed = timed(step, device)
            if repetition >= arguments.warmup:
                times[name].append(elapsed)
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        **vars(arguments),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "parameters": {"medfm3d": count(ours), "monai": count(monai)},
        "median_step_s": medians,
        "fastest_step_s": {name: min(values) for name, values in times.items()},
        "ratio_medfm3d_to_monai": medians["medfm3d"] / medians["monai"],
        "step_s": times,
    }
    print(
        f"{arguments.encoder}, window {arguments.window}^3, batch {arguments.batch}, {result['device']}, "
        f"{result['threads']} threads, median of {arguments.repetitions} steps taken in turns"
    )
    for name, median in medians.items():
        print(f"  {name:8} {median:8.3f} s a step   {result['parameters'][name] / 1e6:7.2f} M weights")
    print(f"  medfm3d takes {result['ratio_medfm3d_to_monai']:.2f} of MONAI's time")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=int, default=96, help="side in voxels, a multiple of 8")
    parser.add_argument("--encoder", default="vit_tiny", choices=sorted(ENCODERS))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--mask-ratio", type=float, default=0.75)
    parser.add_argument("--decoder-dim", type=int, default=96)
    parser.add_argument("--decoder-depth", type=int, default=2)
    parser.add_argument("--decoder-heads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for torch's own choice")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    return parser.parse_args()


def build_ours(arguments: argparse.Namespace) -> MaskedAutoencoder:
    """Return medfm3d's masked autoencoder."""
    return MaskedAutoencoder(
        create_encoder(arguments.encoder),
        arguments.decoder_dim,
        arguments.decoder_depth,
        arguments.decoder_heads,
        arguments.mask_ratio,
    )


def build_monai(arguments: argparse.Namespace) -> MaskedAutoEncoderViT:
    """Return MONAI's masked autoencoder of the same size."""
    size = ENCODERS[arguments.encoder].arguments
    return MaskedAutoEncoderViT(
        in_channels=1,
        img_size=(arguments.window,) * 3,
        patch_size=create_encoder(arguments.encoder).patch_size,
        hidden_size=size["embed_dim"],
        mlp_dim=4 * size["embed_dim"],
        num_layers=size["depth"],
        num_heads=size["num_heads"],
        masking_ratio=arguments.mask_ratio,
        decoder_hidden_size=arguments.decoder_dim,
        decoder_mlp_dim=4 * arguments.decoder_dim,
        decoder_num_layers=arguments.decoder_depth,
        decoder_num_heads=arguments.decoder_heads,
    )


def ours_loss(network: MaskedAutoencoder, windows: torch.Tensor) -> torch.Tensor:
    """Return the loss as in training, the drawing of the mask included."""
    return network.loss(windows, network.draw_mask(windows, seeded_generator(0)))


def monai_loss(network: MaskedAutoEncoderViT, windows: torch.Tensor) -> torch.Tensor:
    """Return the same loss for MONAI's network, which returns all patches and a mask that is 1 where hidden."""
    prediction, mask = network(windows)
    patches = patchify(windows, network.patch_size)
    mean, deviation = patch_scale(patches)
    error = F.mse_loss(prediction, (patches - mean) / deviation, reduction="none").mean(dim=-1)
    return (error * mask).sum() / mask.sum()


def training_step(network: nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Return a function that does one step of training."""
    optimizer = torch.optim.AdamW(decay_groups(network, 0.05), lr=1e-4, betas=(0.9, 0.95))

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def timed(step: Callable[[], None], device: torch.device) -> float:
    """Return the seconds that a step takes."""
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def count(network: nn.Module) -> int:
    """Return the number of trained weights."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


if __name__ == "__main__":
    main()
