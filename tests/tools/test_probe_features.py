"""Probes of frozen features: what they are told, and that they tell good features from bad."""

from pathlib import Path

import numpy as np
import pytest
import torch
from feature_probes.features import voxel_features
from feature_probes.probes import CaseFeatures, make_probe, score_probe, split_cases
from feature_probes.voxels import development_cases, draw_voxels
from probe_features import main
from torch import Tensor

from medfm3d.cohorts import load_manifest
from medfm3d.encoders import create_encoder, save_encoder

COHORT = "hippocampus"


class PlaceEncoder(torch.nn.Module):
    """Features of a cell are the mean place of its voxels, which the window's values tell."""

    strides, channels, patch_size = (4, 8), (3, 3), (8, 8, 8)

    def forward(self, x: Tensor) -> list[Tensor]:
        values = torch.cat([x // 10000, x // 100 % 100, x % 100], dim=1)
        return [torch.nn.functional.avg_pool3d(values, stride) for stride in self.strides]


def test_features_are_those_at_the_voxel() -> None:
    shape = (40, 20, 16)
    grid = torch.stack(torch.meshgrid(*(torch.arange(side) for side in shape), indexing="ij"), dim=-1)
    image = (grid * torch.tensor([10000, 100, 1])).sum(dim=-1)[None].float()
    places = torch.tensor([[20, 9, 7], [7, 8, 8], [33, 12, 6], [13, 11, 8]])
    features = voxel_features(PlaceEncoder(), image, places, (16, 16, 16))
    for maps in (features[:, :3], features[:, 3:]):
        torch.testing.assert_close(maps, places.float(), atol=1e-3, rtol=0)
    small = voxel_features(PlaceEncoder(), image[..., :5], places.clamp(max=4), (16, 16, 16))
    assert small.shape == (4, 6) and torch.isfinite(small).all()


def cases(separation: float) -> list[CaseFeatures]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 6)) * separation
    names = np.repeat([0, 1, 4], 15)
    return [CaseFeatures(centres[np.repeat([0, 1, 2], 15)] + rng.normal(size=(45, 6)), names) for _ in range(6)]


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_probes_tell_separable_features_from_noise(kind: str) -> None:
    good, noise = cases(4.0), cases(0.0)
    score = score_probe(kind, good[:3], good[3:])
    assert score.accuracy > 0.95 and score.macro_f1 > 0.95
    assert score_probe(kind, noise[:3], noise[3:]).accuracy < 0.5


def test_unknown_probes_are_refused() -> None:
    with pytest.raises(ValueError, match="linear or knn"):
        make_probe("forest")


def test_no_case_is_on_both_sides() -> None:
    splits = [split_cases(7, draw, seed=0) for draw in range(4)]
    assert all(sorted(a + b) == list(range(7)) and len(a) == 3 for a, b in splits)
    assert len({tuple(sorted(a)) for a, _ in splits}) > 1


def test_voxels_come_from_development_cases_and_have_their_organ(real_data: Path) -> None:
    cohort = development_cases(real_data / COHORT)
    assert not set(cohort.names) & set(load_manifest("msd_hippocampus").splits["test"])
    drawn, again, other = (draw_voxels(cohort.cases[0], cohort, 12, "MR", seed) for seed in (0, 0, 1))
    assert np.bincount(drawn.names).tolist() == [12, 12, 12]
    assert torch.equal(drawn.places, again.places) and not torch.equal(drawn.places, other.places)
    organs = drawn.places[drawn.names > 0].float()
    assert (drawn.places >= 0).all() and (drawn.places < torch.tensor(drawn.image.shape[1:])).all()
    assert organs.std(dim=0).max() < 15  # all of it in one hippocampus
    # In RAS the anterior part lies further along the second axis, whatever the file's orientation is.
    assert drawn.places[drawn.names == 1, 1].float().mean() > drawn.places[drawn.names == 2, 1].float().mean() + 5


def test_the_table_has_a_row_for_each_encoder(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save_encoder(create_encoder("vit_tiny"), tmp_path / "e.safetensors", name="vit_tiny")
    rows = main(
        [
            "--cohort", f"h={real_data / COHORT}:MR", "--encoder", f"saved={file}", "--encoder", "random=",
            "--cases", "4", "--per-class", "6", "--draws", "2", "--window", "32", "32", "32",
            "--json", str(tmp_path / "rows.json"),
        ]
    )  # fmt: skip
    assert [row["encoder"] for row in rows] == ["saved", "random"]
    assert all(0 <= row["linear_accuracy"][0] <= 1 for row in rows)
    table = capsys.readouterr().out
    assert table.count("\n") == 4 and "| h | saved |" in table
    assert (tmp_path / "rows.json").is_file()
