import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import ModelParallelStrategy
from safetensors import safe_open
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from medfm3d.encoders import ViTEncoder
from medfm3d.pretraining import (
    AtomicCheckpointIO,
    ExportEncoder,
    MAEModule,
    MaskedAutoencoder,
    PretrainingData,
    StepSeed,
    Throughput,
    TrainingFlops,
    WindowDataset,
    compile_blocks,
    find_checkpoint,
    seeded_generator,
)


def make_network(decoder_depth: int = 1, **encoder: Any) -> MaskedAutoencoder:
    torch.manual_seed(5)
    vit = ViTEncoder(embed_dim=48, depth=2, num_heads=2, **encoder)
    return MaskedAutoencoder(vit, decoder_dim=24, decoder_depth=decoder_depth, decoder_heads=2)


def fit(
    scans: Path,
    output: Path,
    steps: int = 8,
    *,
    network: MaskedAutoencoder | None = None,
    batch_size: int = 2,
    workers: int = 0,
    callbacks: tuple[pl.Callback, ...] = (),
    compiled: bool = False,
    **trainer_arguments: Any,
) -> MAEModule:
    """Train for `steps` of 8 steps, 4 an epoch, with a checkpoint after every third; go on from the last one."""
    module = MAEModule(network or make_network(), total_steps=8, warmup_steps=2, seed=1, compiled=compiled)
    data = PretrainingData(
        [{"images": scans}], scans.parent / "cache", 16, batch_size, steps_per_epoch=4, validation_windows=2,
        validation_fraction=0.25, workers=workers, seed=1,
    )  # fmt: skip
    checkpoints = ModelCheckpoint(
        output / "checkpoints", save_top_k=0, save_last=True, every_n_train_steps=3, enable_version_counter=False
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=2, logger=CSVLogger(output, name="", version=f"to_{steps}"),
        log_every_n_steps=1, use_distributed_sampler=False, num_sanity_val_steps=0, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[checkpoints, *callbacks], plugins=[AtomicCheckpointIO()],
        gradient_clip_val=1.0, **trainer_arguments,
    )  # fmt: skip
    trainer.fit(module, datamodule=data, ckpt_path=find_checkpoint(output, "auto"), weights_only=True)
    return module


def logged(output: Path, column: str, steps: int = 8) -> dict[int, float]:
    table = pd.read_csv(output / f"to_{steps}" / "metrics.csv")
    return table.dropna(subset=[column]).set_index("step")[column].to_dict()


def test_run_resumed_within_an_epoch_goes_on_bit_by_bit(scans: Path, tmp_path: Path, recwarn) -> None:
    losses = {}
    for name, parts in {"whole": [(8, 0)], "cut": [(3, 0), (8, 1)]}.items():
        for steps, workers in parts:
            network = make_network(drop_path_rate=0.5)  # draws from torch's own generator
            torch.manual_seed(steps)
            module = fit(scans, tmp_path / name, steps, network=network, workers=workers, callbacks=(StepSeed(1),))
        losses[name] = (logged(tmp_path / name, "train_loss"), logged(tmp_path / name, "val_loss"))
        losses[name] += ({key: value.double().sum().item() for key, value in module.state_dict().items()},)
    assert list(losses["cut"][0]) == [3, 4, 5, 6, 7]
    assert losses["cut"][0] == {step: loss for step, loss in losses["whole"][0].items() if step >= 3}
    assert losses["cut"][1] == losses["whole"][1] and list(losses["whole"][1]) == [3, 7]
    assert losses["cut"][2] == losses["whole"][2]
    assert not [warning for warning in recwarn if "dataloader is not resumable" in str(warning.message)]


@pytest.fixture
def one_process_group() -> Iterator[None]:
    """What a strategy of several processes sets up for one; taken down, since it would be found by other tests."""
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_weights_shared_out_or_not_go_on_with_each_others_checkpoints(
    scans: Path, tmp_path: Path, one_process_group: None
) -> None:
    export = ExportEncoder(tmp_path / "encoder.safetensors", "vit_tiny")
    whole = fit(scans, tmp_path / "whole", callbacks=(export,))
    fit(scans, tmp_path / "parts", 3)
    sharded = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=1, save_distributed_checkpoint=False)
    throughput = Throughput(peak_tflops=1.0)
    shared = fit(scans, tmp_path / "parts", 6, strategy=sharded, callbacks=(export, throughput))
    assert isinstance(next(shared.parameters()), DTensor) and throughput.flops_per_batch > 0
    with safe_open(export.path, framework="pt") as file:
        assert set(file.keys()) == set(whole.network.encoder.state_dict())
    last = fit(scans, tmp_path / "parts")
    curve = {**logged(tmp_path / "parts", "train_loss", 6), **logged(tmp_path / "parts", "train_loss", 8)}
    expected = {step: loss for step, loss in logged(tmp_path / "whole", "train_loss").items() if step >= 3}
    assert curve == pytest.approx(expected, rel=1e-5)
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(last.state_dict()[name], weight, atol=1e-5, rtol=1e-4, msg=name)


def test_bf16_follows_the_curve_of_float32(scans: Path, tmp_path: Path) -> None:
    export = ExportEncoder(tmp_path / "encoder.safetensors", "vit_tiny")
    fit(scans, tmp_path / "full", 3)
    module = fit(scans, tmp_path / "mixed", 3, precision="bf16-mixed", callbacks=(export,))
    full, mixed = (logged(tmp_path / name, "train_loss", 3) for name in ("full", "mixed"))
    assert mixed == pytest.approx(full, rel=2e-2) and mixed != full
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}


@pytest.mark.slow
def test_compiled_blocks_compute_the_same_under_the_same_names(scans: Path, tmp_path: Path) -> None:
    torch._dynamo.reset()
    export = ExportEncoder(tmp_path / "encoder.safetensors", "vit_tiny")
    # No blocks in the decoder: one compilation instead of two.
    plain, compiled = (
        fit(scans, tmp_path / name, 2, network=make_network(decoder_depth=0), compiled=flag, callbacks=(export,))
        for name, flag in (("plain", False), ("compiled", True))
    )
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    curves = [logged(tmp_path / name, "train_loss", 2) for name in ("plain", "compiled")]
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    with safe_open(tmp_path / "encoder.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(make_network().encoder.state_dict())


def test_a_network_without_blocks_is_not_compiled() -> None:
    with pytest.raises(ValueError, match="no transformer blocks to compile"):
        compile_blocks(nn.Conv3d(1, 1, 3))


def die_while_writing(path: Path) -> None:
    whole = torch.save

    def half(content: Any, file: Any) -> None:
        whole(content, file)
        file.flush()
        file.truncate(file.tell() // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    AtomicCheckpointIO().save_checkpoint({"step": 2, "weight": torch.zeros(1000)}, path)


def test_a_process_killed_while_it_writes_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    process = multiprocessing.get_context("fork").Process(target=die_while_writing, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert len(list(tmp_path.iterdir())) == 2
    AtomicCheckpointIO().save_checkpoint({"step": 3}, path)
    assert torch.load(path, weights_only=True) == {"step": 3}
    assert list(tmp_path.iterdir()) == [path]


def test_throughput_tells_computing_from_waiting(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = WindowDataset.__getitem__

    def slow(self: WindowDataset, number: int) -> dict[str, Any]:
        time.sleep(0.2)
        return fast(self, number)

    throughput = Throughput(peak_tflops=1e-3)
    network = make_network()
    fit(scans, tmp_path / "fast", network=network, callbacks=(throughput,))
    monkeypatch.setattr(WindowDataset, "__getitem__", slow)
    fit(scans, tmp_path / "slow", callbacks=(Throughput(),))
    table = pd.read_csv(tmp_path / "fast" / "to_8" / "metrics.csv").dropna(subset=["windows_per_s"])
    assert list(table["step"]) == [1, 2, 3, 4, 5, 6, 7]
    assert table["voxels_per_s"].to_numpy() == pytest.approx(table["windows_per_s"].to_numpy() * 16**3)
    utilisation = table["windows_per_s"].to_numpy() / 2 * throughput.flops_per_batch / 1e9
    assert table["mfu"].to_numpy() == pytest.approx(utilisation, rel=1e-6)
    waits = {name: logged(tmp_path / name, "data_wait") for name in ("fast", "slow")}
    assert max(waits["slow"].values()) <= 1 and min(waits["fast"].values()) > 0
    assert pd.Series(waits["slow"]).median() > pd.Series(waits["fast"]).median()
    assert max(logged(tmp_path / "slow", "windows_per_s").values()) < 5
    assert "mfu" not in pd.read_csv(tmp_path / "slow" / "to_8" / "metrics.csv")
    x = torch.randn(2, 1, 16, 16, 16)
    with TrainingFlops() as flops:
        network.train().loss(x, network.draw_mask(x, seeded_generator(0))).backward()
    assert throughput.flops_per_batch == flops.total


def test_throughput_needs_a_loader_that_knows_its_waits(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medfm3d.pretraining.pretraining_data.StepLoader", DataLoader)
    with pytest.raises(TypeError, match="needs a StepLoader, not DataLoader"):
        fit(scans, tmp_path, callbacks=(Throughput(),))
    with pytest.raises(ValueError, match="must be positive"):
        Throughput(peak_tflops=0)


def test_operations_are_those_of_the_formulas() -> None:
    linear = nn.Linear(8, 4)
    with TrainingFlops() as flops:
        linear(torch.zeros(3, 8)).sum().backward()
    assert flops.total == 2 * (2 * 3 * 8 * 4)  # forward, and the weight's gradient; the input needs none
    q = torch.randn(1, 2, 5, 6, requires_grad=True)
    with TrainingFlops() as flops:
        out = nn.functional.scaled_dot_product_attention(q, q, q)
    assert flops.total == 2 * (2 * 2 * 5 * 5 * 6)  # scores and values, two heads
    with TrainingFlops() as flops:
        out.sum().backward()
    assert flops.total == 5 * (2 * 2 * 5 * 5 * 6)  # the scores anew, and two gradients of either product
