"""The benchmark of pretraining measures what it names, and judges by the ratios that were promised."""

import json
import sys
from pathlib import Path

import benchmark_pretraining
import pytest
import torch
from fewshot_benchmark.clock import Stage
from pretraining_benchmark.contenders import CONTENDERS, MEANINGS, Sizes, TrainingStep
from pretraining_benchmark.report import TARGETS, check_targets, summarise, verdict

SMALL = Sizes(window=64, batch=2, decoder_dim=24, decoder_depth=1)


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_learns(name: str) -> None:
    step = TrainingStep(name, SMALL, torch.device("cpu"))
    before = [weight.clone() for weight in step.network.parameters()]
    step()
    moved = [not torch.equal(old, new) for old, new in zip(before, step.network.parameters(), strict=True)]
    # MONAI holds tokens that it does not use, and stochastic depth may skip a block of nnssl's.
    assert sum(moved) > 0.8 * len(moved)
    assert step.weights() > 1e6


def test_encoders_are_of_one_size() -> None:
    """Peers' networks of the ViT have about the weights of ours, and masking methods the very same encoder."""
    ours, monai, nnssl = (
        TrainingStep(name, SMALL, torch.device("cpu")).network for name in ("vit-mae", "vit-mae-monai", "vit-mae-nnssl")
    )
    count = sum(weight.numel() for weight in ours.encoder.parameters())
    for blocks in (monai.blocks, nnssl.eva.blocks):
        assert sum(weight.numel() for weight in blocks.parameters()) == pytest.approx(count, rel=0.15)


def test_the_share_that_is_hidden_costs_nnssl_nothing() -> None:
    network = TrainingStep("vit-mae-nnssl", SMALL, torch.device("cpu")).network
    lengths: list[int] = []
    for blocks in (network.eva.blocks, network.decoder.blocks):
        blocks[0].register_forward_hook(lambda block, inputs, output: lengths.append(output.shape[1]))
    network.loss(torch.randn(2, 1, 64, 64, 64))
    assert lengths == [128, 512]


def test_targets_are_judged_by_medians() -> None:
    assert [(t.name, t.at_most) for t in TARGETS] == [("vit-mae", 0.35), ("swin-mae", 0.45)]
    times = {
        "vit-mae": [Stage(0.3, 0.3), Stage(0.4, 0.4), Stage(9.0, 0.4)],
        "vit-simmim": [Stage(1.0, 1.0), Stage(1.0, 1.0), Stage(2.0, 1.0)],
        "swin-mae": [Stage(1.0, 1.0)],
        "swin-simmim": [Stage(2.0, 2.0)],
    }
    rows = {name: {**row, "memory_mib": 10.0} for name, row in summarise(times).items()}
    vit, swin = check_targets(rows)
    assert vit["median_s"] == pytest.approx(0.4) and not vit["reached"] and "MISSED" in verdict(vit)
    assert swin["median_s"] == pytest.approx(0.5) and not swin["reached"]
    rows["swin-simmim"]["median_s"] = 2.5
    assert check_targets(rows)[1]["reached"] and "reached" in verdict(check_targets(rows)[1])
    assert check_targets({"vit-mae": rows["vit-mae"]}) == []


def test_a_run_prints_and_writes_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    threads = torch.get_num_threads()
    words = {"window": 64, "batch": 1, "repetitions": 1, "warmup": 0, "threads": 1, "contenders": "vit-mae"}
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["benchmark", *options, "--json", str(tmp_path / "result.json")])
    benchmark_pretraining.main()
    torch.set_num_threads(threads)
    (row,) = json.loads((tmp_path / "result.json").read_text())["rows"].values()
    assert row["memory_mib"] > 1 and row["median_s"] > 0 and row["weights"] > 1e6
    assert MEANINGS["vit-mae"] in capsys.readouterr().out
