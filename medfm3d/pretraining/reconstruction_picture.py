"""Pictures of what a masked autoencoder makes of a window it has not trained on."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor

from medfm3d.pretraining.mae_module import MAEModule
from medfm3d.pretraining.masked_network import MaskedNetwork
from medfm3d.pretraining.masking import seeded_generator
from medfm3d.pretraining.scaled_blocks import is_sharded
from medfm3d.volumes.whole_file import whole_file

PLANES = ("sagittal", "coronal", "axial")  # slices across the first, second and third axis of RAS


class ReconstructionPicture(pl.Callback):
    """Every N epochs, the first validation window as it is, masked, and reconstructed: a PNG file and in TensorBoard.

    Window and mask are the same each time. Without validation the first training window is shown.

    Args:
        folder: where `epoch_0001.png` and so on go.
        every_n_epochs: N.
    """

    def __init__(self, folder: str | Path, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}")
        self.folder = Path(folder)
        self.every_n_epochs = every_n_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: MAEModule) -> None:
        """Draw, if this epoch's turn has come; in the first process alone."""
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs or not (trainer.is_global_zero or is_sharded(pl_module.network)):
            return
        dataset = trainer.datamodule.validation_set or trainer.datamodule.training_set
        window = dataset[0]["image"][None].to(pl_module.device)
        was_training = pl_module.training
        pl_module.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            figure = draw_reconstruction(pl_module.network, window, seed=pl_module.seed)
        pl_module.train(was_training)
        if not trainer.is_global_zero:  # it was needed to compute alone, for the weights it holds
            return
        save_figure(figure, self.folder / f"epoch_{epoch:04d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("reconstruction", figure, global_step=trainer.global_step)


def draw_reconstruction(network: MaskedNetwork, window: Tensor, seed: int) -> Figure:
    """Return a figure of a window (1, C, D, H, W): central slices of its first channel in three planes.

    One row for each plane; columns are the original, what the encoder sees, and the reconstruction.
    """
    mask = network.draw_mask(window, seeded_generator(seed))
    shown = [window, network.hide(window, mask), network.reconstruct(window, mask)]
    volumes = [volume[0, 0].float().cpu().numpy() for volume in shown]
    low, high = volumes[0].min(), volumes[0].max()
    figure = Figure(figsize=(7.5, 7.8), layout="constrained")
    axes = figure.subplots(3, 3)
    for axis, plane in enumerate(PLANES):
        for column, (volume, title) in enumerate(zip(volumes, ("original", "masked", "reconstructed"), strict=True)):
            ax = axes[axis, column]
            # Transposed, the first remaining axis runs to the right and the second upwards.
            ax.imshow(
                volume.take(volume.shape[axis] // 2, axis=axis).T, cmap="gray", vmin=low, vmax=high, origin="lower"
            )
            ax.set(xticks=[], yticks=[])
            if axis == 0:
                ax.set_title(title)
            if column == 0:
                ax.set_ylabel(plane)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG; an existing file is replaced at once."""
    path = Path(path)
    with whole_file(path) as whole:
        figure.savefig(whole, dpi=110, format="png")
    return path
