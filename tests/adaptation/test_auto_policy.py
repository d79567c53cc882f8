"""The domain gap, and what the policy makes of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from scipy.linalg import sqrtm

from medfm3d.adaptation import (
    ADAPTERS,
    AdaptationPlan,
    FeatureStatistics,
    MethodChoice,
    choose_by_table,
    create_adapter,
    frechet_distance,
    resolve_method,
    support_windows,
    write_statistics,
)
from medfm3d.adaptation.auto_policy import FAR, TABLE
from medfm3d.adaptation.statistics_file import read_statistics
from medfm3d.cohorts import read_cohort
from medfm3d.encoders import Encoder, WeightsError, create_encoder, load_encoder, save_encoder
from medfm3d.pretraining import PretrainingCohort

TINY = {"embed_dim": 48, "depth": 2, "num_heads": 4, "out_layers": (0, 1)}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return create_encoder("vit_tiny", **TINY).eval()


def scans(count: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> list[torch.Tensor]:
    """Windows of smooth random scans: 4 of each."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        coarse = torch.randn(4, 1, 6, 6, 6, generator=generator)
        made.append(torch.nn.functional.interpolate(coarse, size=(24, 24, 24), mode="trilinear") * scale + shift)
    return made


def test_the_distance_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + rng.normal(size=5) for _ in range(2))
    one, other = (a.mean(axis=0), np.cov(a.T)), (b.mean(axis=0), np.cov(b.T))
    squared = ((one[0] - other[0]) ** 2).sum() + np.trace(one[1] + other[1] - 2 * sqrtm(one[1] @ other[1]).real)
    assert frechet_distance(*one, *other) == pytest.approx(np.sqrt(squared), rel=1e-6)
    assert frechet_distance(*one, *one) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(*one, one[0] + 3, one[1]) == pytest.approx(3 * np.sqrt(5))


def test_scans_like_those_of_pretraining_have_a_gap_of_one(encoder: Encoder) -> None:
    statistics = FeatureStatistics.measure(encoder, scans(8, seed=0))
    assert statistics.scans == 8 and statistics.mean.shape == (48,)
    like = statistics.gap(encoder, scans(6, seed=1))
    assert like == pytest.approx(1, abs=0.25)
    assert statistics.gap(encoder, scans(1, seed=2)) == pytest.approx(like, abs=0.4)  # whatever their number
    brighter, further = (statistics.gap(encoder, scans(3, seed=1, shift=shift)) for shift in (1.0, 3.0))
    assert like < brighter < further and further > 2


def test_statistics_travel_in_a_header(encoder: Encoder, tmp_path: Path) -> None:
    statistics = FeatureStatistics.measure(encoder, scans(4, seed=0))
    text = json.dumps(statistics.to_json())
    assert len(text) < 5000
    again = FeatureStatistics.from_json(json.loads(text))
    assert again.gap(encoder, scans(2, seed=1)) == pytest.approx(statistics.gap(encoder, scans(2, seed=1)), rel=0.02)
    with pytest.raises(ValueError, match="format"):
        FeatureStatistics.from_json({"format": "other"})
    with pytest.raises(ValueError, match="two scans"):
        FeatureStatistics.measure(encoder, scans(1, seed=0))
    with pytest.raises(ValueError, match=r"windows of \(8, 24, 24\) compare with no statistics of \(24, 24, 24\)"):
        again.gap(encoder, [scan[:, :, :8] for scan in scans(1, seed=0)])
    with pytest.raises(ValueError, match="windows of one size"):
        FeatureStatistics.measure(encoder, [*scans(1, seed=0), scans(1, seed=0)[0][:, :, :8]])
    with pytest.raises(ValueError, match="another encoder"):
        again.gap(create_encoder("vit_tiny", **{**TINY, "embed_dim": 24, "num_heads": 1}), scans(1, seed=0))


@pytest.mark.parametrize(
    ("name", "manifest", "organs", "k"),
    [
        ("hippocampus", "msd_hippocampus", ["anterior", "posterior"], 1),
        ("hippocampus", "msd_hippocampus", ["anterior", "posterior"], 5),
        ("headneck_ct", "openkbp_headneck", ["Mandible"], 1),
    ],
)
def test_scans_of_the_cohorts_of_pretraining_are_like_them(
    real_data: Path, repository: Path, name: str, manifest: str, organs: list[str], k: int
) -> None:
    """As the bundle asks, of cases that pretraining did not see."""
    cohort = read_cohort(real_data / name, manifest).split("test")
    config = ConfigParser()
    config.read_config(repository / "bundles/fewshot_organ_segmentation/configs/train.json")
    config["bundle_root"] = str(repository / "bundles/fewshot_organ_segmentation")
    config["cohort"], config["method"], config["k"] = cohort, "auto", k
    config["organs"] = {organ: cohort.organs[organ] for organ in organs}
    choice = config.get_parsed_content("choice")
    assert choice.method == "decoder" and ": like those of pretraining" in choice.reason, choice


def test_scans_of_another_kind_are_far(real_data: Path, repository: Path) -> None:
    weights = repository / "bundles/fewshot_organ_segmentation/models/encoder.safetensors"
    shipped, statistics = load_encoder(weights), read_statistics(weights, "MR")
    cases = read_cohort(real_data / "headneck_ct", "openkbp_headneck").split("test").cases[:1]
    preprocess = Compose(PretrainingCohort(".", modality="CT").preprocessing())
    windows = support_windows(cases, statistics.window, lambda paths: preprocess({"image": paths["image"]}))
    assert statistics.gap(shipped, windows) > FAR


def test_the_table_covers_every_number_of_scans_and_explains_itself() -> None:
    methods = {name for rule in TABLE for name in (rule.near, rule.far)}
    assert methods <= set(ADAPTERS) and TABLE[-1].most_cases == float("inf")
    for cases in (1, 2, 3, 5, 7, 8, 10, 100):
        for gap in (None, 1.0, FAR - 0.01, FAR, 9.0):
            choice = choose_by_table(cases, gap)
            method = create_adapter(choice.method, **choice.arguments)
            assert method.defaults.iterations_for(2) > 0 and f"{cases} outlined scan" in choice.reason
            assert ("not known" in choice.reason) == (gap is None)
    assert choose_by_table(5, None) == choose_by_table(5, None)
    assert choose_by_table(1, 1.0).method == choose_by_table(1, None).method == "decoder"
    assert choose_by_table(1, 5.0).method == "bias" and "unlike" in choose_by_table(1, 5.0).reason
    assert choose_by_table(5, 1.4).method == "decoder" and choose_by_table(5, 2.5).method == "lora"
    assert choose_by_table(10, 1.2).method == "decoder" and choose_by_table(10, 2.5).method == "full"


@pytest.mark.parametrize(("method", "organs", "steps"), [("decoder", 3, 1000), ("decoder", 4, 2000), ("lora", 4, 1000)])
def test_the_decoder_trains_longer_on_many_organs(repository: Path, method: str, organs: int, steps: int) -> None:
    config = ConfigParser()
    config.read_config(repository / "bundles/fewshot_organ_segmentation/configs/train.json")
    names = {f"organ {number}": number for number in range(1, 1 + organs)}
    config["plan"] = {
        "_target_": "medfm3d.adaptation.AdaptationPlan",
        **{"organs": names, "modality": "CT", "spacing_mm": [1, 1, 1], "window": [16, 16, 16]},
    }
    config["choice"] = {"_target_": "medfm3d.adaptation.MethodChoice", "method": method}
    assert config.get_parsed_content("iterations") == steps


def test_auto_reads_the_gap_from_the_header_of_the_weights(
    encoder: Encoder, small_cohort: Path, tmp_path: Path
) -> None:
    support = list(read_cohort(small_cohort).cases[:3])
    plan = AdaptationPlan({"cube": 2, "ball": 5}, "MR", (1.0, 1.2, 1.5), (24, 32, 24))

    def preprocessing(paths: dict) -> dict:
        assert set(paths) == {"image", "label"}
        return {"image": torch.randn(1, 28, 34, 30, generator=torch.Generator().manual_seed(0))}

    def resolve(weights: Path | None, method: str = "auto", **arguments: object) -> MethodChoice:
        return resolve_method(
            method, arguments, support=support, plan=plan, preprocessing=preprocessing, encoder_weights=weights
        )

    bare = save_encoder(encoder, tmp_path / "bare.safetensors", name="vit_tiny", arguments=TINY)
    assert resolve(bare) == resolve(None) == choose_by_table(3, None)
    own = list(support_windows(support, (24, 24, 24), preprocessing))
    assert len(own) == 3 and own[0].shape == (8, 1, 24, 24, 24)
    for name, kind, expected in (("near", own, "decoder"), ("far", scans(4, seed=0, scale=0.01), "lora")):
        file = save_encoder(encoder, tmp_path / f"{name}.safetensors", name="vit_tiny", arguments=TINY)
        write_statistics(file, {"MR": FeatureStatistics.measure(encoder, kind)}, {})
        choice = resolve(file)
        assert choice.method == expected and "domain gap" in choice.reason, choice
    ct_only = save_encoder(encoder, tmp_path / "ct.safetensors", name="vit_tiny", arguments=TINY)
    write_statistics(ct_only, {"CT": FeatureStatistics.measure(encoder, own)}, {"of": "CT"})
    assert "not known" in resolve(ct_only).reason
    save_encoder(encoder, ct_only, name="vit_tiny", arguments=TINY, provenance={"another": "file"})
    with pytest.raises(WeightsError, match=r"ct_statistics\.json: belongs to other weights"):
        resolve(ct_only)
    assert resolve(bare, "lora", rank=2) == MethodChoice("lora", {"rank": 2})
    with pytest.raises(ValueError, match="takes no arguments"):
        resolve(bare, rank=2)
    with pytest.raises(ValueError, match="resolve_method"):
        create_adapter("auto")
