"""Student and teacher, their training, and the watch over the teacher's features."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from medfm3d.encoders import create_encoder, read_header
from medfm3d.pretraining import find_checkpoint
from medfm3d.pretraining.dino import (
    CollapseMonitor,
    DINOModule,
    ExportTeacher,
    FeatureCollapseError,
    MultiCropData,
    SelfDistillation,
    block_masks,
)
from medfm3d.pretraining.masking import seeded_generator

STEPS = 6
SMALL_ENCODER = {"embed_dim": 48, "depth": 2, "num_heads": 2, "out_layers": (0, 1)}


def make_network(seed: int = 5, **settings: bool) -> SelfDistillation:
    torch.manual_seed(seed)
    encoder = create_encoder("vit_tiny", **SMALL_ENCODER)
    return SelfDistillation(encoder, prototypes=16, hidden_dim=24, bottleneck_dim=12, **settings)


def make_batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 2, 1, 16, 16, 24, generator=generator), torch.randn(2, 3, 1, 8, 8, 16, generator=generator)


def make_mask() -> Tensor:
    return block_masks(4, (2, 2, 3), seeded_generator(0), ratio=(0.3, 0.5))


@pytest.mark.parametrize("separate_heads", [True, False])
def test_gradients_reach_the_whole_student_and_nothing_of_the_teacher(separate_heads: bool) -> None:
    network = make_network(separate_heads=separate_heads)
    losses = network.losses(*make_batch(), make_mask(), 0.05)
    (losses.dino + losses.ibot + losses.koleo).backward()
    blind = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not blind
    assert all(p.grad is None and not p.requires_grad for p in network.teacher.parameters())
    assert len(network.last_layers()) == (2 if separate_heads else 1)
    assert losses.view_features.shape == (4, 48) and losses.cell_features.shape == (4, 12, 48)


def test_each_part_of_the_loss_depends_on_what_it_is_of() -> None:
    network, (views, crops), mask = make_network(), make_batch(), make_mask()
    with torch.no_grad():
        for p in network.student.parameters():
            p.add_(0.05 * torch.randn_like(p))
        whole = network.losses(views, crops, mask, 0.05)
        other_crops = network.losses(views, crops.flip(-1) + 1, mask, 0.05)
        nothing_hidden = network.losses(views, crops, torch.zeros_like(mask), 0.05)
    assert other_crops.dino != whole.dino and other_crops.ibot == whole.ibot and other_crops.koleo == whole.koleo
    assert nothing_hidden.ibot == 0 < whole.ibot
    torch.testing.assert_close(nothing_hidden.view_features, whole.view_features)  # the teacher sees all of it anyway
    assert network.losses(views, crops, mask, 0.05, koleo=False).koleo is None
    assert torch.isfinite(network.losses(views, crops[:, :0], mask, 0.05).dino)


def test_the_teacher_is_the_moving_average_and_its_features_are_returned() -> None:
    network = make_network()
    before = [p.clone() for p in network.teacher.parameters()]
    with torch.no_grad():
        for p in network.student.parameters():
            p.add_(1)
    network.train().update_teacher(0.9)
    for old, new in zip(before, network.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)
    assert not network.teacher.training and network.student.training
    x = make_batch()[0][:, 0]
    assert torch.equal(network(x), network.teacher.encoder(x)[-1])


def train(
    scans: Path, output: Path, steps: int = STEPS, resume: str = "never", callbacks: tuple = (), **settings
) -> DINOModule:
    module = DINOModule(make_network(), STEPS, **{"learning_rate": 1e-3, "warmup_steps": 1, "seed": 1, **settings})
    data = MultiCropData(
        [{"images": scans}], scans.parent / "dino_cache", 28, 16, 8, 2,
        batch_size=2, steps_per_epoch=3, validation_windows=2, validation_fraction=0.25, seed=1,
    )  # fmt: skip
    checkpoint = ModelCheckpoint(
        output / "checkpoints", save_top_k=0, save_last=True, every_n_train_steps=2, enable_version_counter=False
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=2, logger=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[checkpoint, *callbacks],
    )  # fmt: skip
    trainer.fit(module, datamodule=data, ckpt_path=find_checkpoint(output, resume), weights_only=True)
    return module


def test_a_resumed_run_ends_as_an_uninterrupted_one(scans: Path, tmp_path: Path) -> None:
    monitors = [CollapseMonitor(every_n_steps=1, remembered=12, grace_steps=99) for _ in range(2)]
    export = ExportTeacher(tmp_path / "encoder.safetensors", "vit_tiny", {"data": ["blobs"]})
    whole = train(scans, tmp_path / "whole", callbacks=(monitors[0], export))
    train(scans, tmp_path / "cut", steps=4, callbacks=(CollapseMonitor(every_n_steps=1, remembered=12),))
    resumed = train(scans, tmp_path / "cut", resume="auto", callbacks=(monitors[1],))
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, atol=1e-6, rtol=1e-5, msg=name)
    student, teacher = whole.network.student, whole.network.teacher
    assert any(not torch.equal(a, b) for a, b in zip(student.parameters(), teacher.parameters(), strict=True))
    for kind in ("view", "cell"):
        torch.testing.assert_close(monitors[0].kept[kind], monitors[1].kept[kind], atol=1e-4, rtol=1e-4)
    provenance = read_header(tmp_path / "encoder.safetensors")["provenance"]
    assert provenance["steps"] == STEPS and provenance["data"] == ["blobs"] and provenance["val_loss"] > 0
    assert "DINOv2" in provenance["method"] and provenance["train_loss"] == export.last_loss


def test_prototypes_stay_while_they_are_frozen(scans: Path, tmp_path: Path) -> None:
    fresh = make_network()
    frozen = train(scans, tmp_path / "a", steps=2, frozen_last_layer_steps=2).network
    thawed = train(scans, tmp_path / "b", steps=3, frozen_last_layer_steps=2).network
    assert torch.equal(frozen.student.view_head.prototypes, fresh.student.view_head.prototypes)
    assert not torch.equal(thawed.student.view_head.prototypes, fresh.student.view_head.prototypes)
    assert not torch.equal(frozen.student.view_head.mlp[0].weight, fresh.student.view_head.mlp[0].weight)


def test_schedules_run_with_the_steps() -> None:
    module = DINOModule(make_network(), 100, temperature_warmup_steps=10)
    assert module.momentum(0) == pytest.approx(0.996) and module.momentum(100) == pytest.approx(1)
    assert [module.teacher_temperature(step) for step in (0, 5, 10, 99)] == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert module.weight_decay(0) == pytest.approx(0.04) and module.weight_decay(100) == pytest.approx(0.2)
    assert module.rate(9) < module.rate(10) == 1 and module.rate(100) == pytest.approx(0.01)


def test_blocks_are_compiled_on_demand_and_weights_are_not_shared_out() -> None:
    module = DINOModule(make_network(), 9, compiled=True)
    module.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module.configure_model()
    blocks = [*module.network.student.encoder.eva.blocks, *module.network.teacher.encoder.eva.blocks]
    assert all(block._compiled_call_impl is not None for block in blocks)
    module.trainer.strategy.__class__ = ModelParallelStrategy
    with pytest.raises(ValueError, match="strategy to ddp"):
        module.configure_model()


class Logger(pl.loggers.logger.DummyLogger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, float] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.values = metrics


def look(monitor: CollapseMonitor, views: Tensor, cells: Tensor) -> dict[str, float]:
    """Show a monitor one batch of features at step 1; returns what it logs."""
    logger = Logger()

    class Trainer:
        global_step, is_global_zero, loggers = 1, True, [logger]

    outputs = {"view_features": views, "cell_features": cells, "view_logits": torch.zeros(4, 8)}
    monitor.on_train_batch_end(Trainer(), DINOModule(make_network(), 9), outputs, None, 0)
    return logger.values


def test_collapse_is_seen_and_said() -> None:
    torch.manual_seed(0)
    spread = torch.randn(40, 48)
    cells = torch.randn(4, 30, 48)
    strict = {"every_n_steps": 1, "grace_steps": 0, "on_collapse": "stop"}
    logged = look(CollapseMonitor(**strict), spread, cells)
    assert logged["teacher_view_rank"] > 30 and logged["teacher_view_spread"] > 0.9
    assert logged["teacher_cell_rank"] > 20
    assert logged["teacher_answer_entropy"] == pytest.approx(1) == logged["teacher_mean_answer_entropy"]
    line = torch.randn(40, 1) * torch.randn(1, 48)
    with pytest.raises(FeatureCollapseError, match=r"view_rank .*Lower learning_rate"):
        look(CollapseMonitor(**strict), line + 1e-4 * spread, cells)
    with pytest.raises(FeatureCollapseError, match="view_spread"):
        look(CollapseMonitor(**strict), torch.ones(40, 48) + 1e-3 * spread, cells)
    with pytest.raises(FeatureCollapseError, match="cell_spread"):
        look(CollapseMonitor(**strict), spread, torch.ones(4, 30, 48) + 1e-3 * cells)
    with pytest.warns(UserWarning, match="collapsed"):
        look(CollapseMonitor(**{**strict, "on_collapse": "warn"}), torch.ones(40, 48), cells)
    look(CollapseMonitor(**{**strict, "grace_steps": 2}), torch.ones(40, 48), cells)
    look(CollapseMonitor(**{**strict, "on_collapse": "ignore"}), torch.ones(40, 48), cells)
    with pytest.raises(ValueError, match="on_collapse"):
        CollapseMonitor(on_collapse="shout")


def test_the_exported_encoder_is_the_teachers(scans: Path, tmp_path: Path) -> None:
    module = DINOModule(make_network(), 2)
    with torch.no_grad():
        for p in module.network.teacher.parameters():
            p.add_(0.5)
    export = ExportTeacher(tmp_path / "e.safetensors", "vit_tiny")
    assert export.encoder(module) is module.network.teacher.encoder
