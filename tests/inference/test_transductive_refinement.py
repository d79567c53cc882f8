"""Refinement on a query under the size prior: it moves what is too large, reports it, and leaves no trace."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer

from medfm3d.inference import TransductiveInferer, list_refinements, refinement_file
from medfm3d.inference.size_refinement import SizeRefinement, size_error, size_penalty, tiles
from medfm3d.priors import PriorSet, VolumePrior
from medfm3d.segmentation import Segmenter
from medfm3d.volumes import Volume

TINY = {"embed_dim": 48, "depth": 1, "num_heads": 4, "out_layers": (0,)}
WINDOW = (16, 16, 16)
SHAPE = (24, 26, 16)


def scan_and_label() -> tuple[torch.Tensor, np.ndarray]:
    """A bright ball in a soft halo, noise around it."""
    grid = np.indices(SHAPE) - np.array([12, 13, 8]).reshape(3, 1, 1, 1)
    distance = np.sqrt((grid**2).sum(axis=0))
    label = (distance < 5).astype(np.uint8)
    image = 3 / (1 + np.exp(distance - 5)) + 0.1 * np.random.default_rng(0).normal(size=SHAPE)
    return torch.as_tensor(image, dtype=torch.float32)[None, None], label


@pytest.fixture(scope="module", params=["decoder", "box-adapter"])
def trained(request: pytest.FixtureRequest) -> Segmenter:
    """A real segmenter that outlines the ball too largely: it learnt a label as wide as the halo."""
    torch.manual_seed(0)
    network = Segmenter(
        ["ball"],
        encoder_arguments=TINY,
        adapter=request.param,
        widths=(8, 8, 8),
        feature_channels=6,
        precision="float32",
    )
    image, _ = scan_and_label()
    wide = torch.as_tensor((image[:, 0] > 0.5).numpy().astype(np.int64))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(network(image[:, :, :, :24]), wide[:, :, :24])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    return network.eval().requires_grad_(False)


def priors_file(folder: Path, label: np.ndarray) -> Path:
    priors = PriorSet([VolumePrior()]).fit([Volume(label, np.eye(4))] * 3, {"ball": 1})
    return priors.save(folder / "priors.json")


def inferer(folder: Path, label: np.ndarray, **changes: object) -> TransductiveInferer:
    arguments = {
        "inferer": SlidingWindowInferer(WINDOW, overlap=0.5, mode="gaussian", padding_mode="replicate"),
        "priors_file": priors_file(folder, label),
        "organs": ["ball"],
        "window": WINDOW,
        "spacing_mm": (1.0, 1.0, 1.0),
        "output_dir": folder,
    }
    return TransductiveInferer(**{**arguments, **changes})


def named(image: torch.Tensor) -> MetaTensor:
    return MetaTensor(image, meta={"filename_or_obj": "/scans/query.nii.gz"})


def test_an_organ_that_is_too_large_shrinks_and_the_weights_come_back(trained: Segmenter, tmp_path: Path) -> None:
    image, label = scan_and_label()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    refining = inferer(tmp_path, label, learning_rate=2e-2)
    with torch.no_grad():
        plain = refining.inferer(named(image), trained)
        refined = refining(named(image), trained)
        assert torch.equal(refining.inferer(named(image), trained), plain)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in trained.parameters())

    volumes = [float((logits.argmax(dim=1) == 1).sum()) / 1000 for logits in (plain, refined)]
    expected = label.sum() / 1000
    left = {"decoder": 0.8, "box-adapter": 0.95}[trained.method.name]
    assert volumes[0] > 1.43 * expected and abs(volumes[1] - expected) < left * abs(volumes[0] - expected), volumes
    (said,) = list_refinements(tmp_path, ["query.nii.gz"])
    (ball,) = said["organs"]
    assert said["case"] == "query" and said["steps"] > 0 and ball["note"] == "not of the expected size"
    assert [ball["before_ml"], ball["after_ml"]] == pytest.approx(volumes)
    assert ball["expected_ml"] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("trained", ["decoder"], indirect=True)
def test_what_fits_is_cut_off_or_unknown_is_left_alone(trained: Segmenter, tmp_path: Path) -> None:
    image, label = scan_and_label()
    refining = inferer(tmp_path, label)
    with torch.no_grad():
        mask = refining.inferer(image, trained).argmax(dim=1)[0].numpy().astype(np.uint8)
    cut = image[:, :, :12]  # through the middle of the ball
    nothing = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1).expand(1, 2, *SHAPE)
    cases = {
        "of the expected size": (image, inferer(tmp_path, mask)),
        "left alone: cut by the edge of the scan": (cut, refining),
        "left alone: not found": (image, inferer(tmp_path, label, inferer=lambda scan, network: nothing)),
        "left alone: the prior does not know its volume": (image, inferer(tmp_path, label, organs=["thing"])),
    }
    for note, (scan, inferring) in cases.items():
        priors_file(tmp_path, mask if note == "of the expected size" else label)
        with torch.no_grad():
            assert torch.equal(inferring(named(scan), trained), inferring.inferer(named(scan), trained)), note
        said = json.loads(refinement_file(tmp_path, "query.nii.gz").read_text())
        assert said["steps"] == 0 and said["organs"][0]["note"] == note


@pytest.mark.parametrize("trained", ["decoder"], indirect=True)
def test_weights_come_back_also_after_an_error(trained: Segmenter, tmp_path: Path) -> None:
    image, label = scan_and_label()
    before = {name: value.clone() for name, value in trained.state_dict().items()}

    class FailsTheSecondTime(SlidingWindowInferer):
        calls = 0

        def __call__(self, *arguments: object) -> torch.Tensor:
            self.calls += 1
            if self.calls == 2:
                raise MemoryError
            return super().__call__(*arguments)

    with pytest.raises(MemoryError), torch.no_grad():
        inferer(tmp_path, label, inferer=FailsTheSecondTime(WINDOW))(named(image), trained)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    with pytest.raises(ValueError, match="one scan at a time"):
        inferer(tmp_path, label)(torch.cat([image, image]), trained)
    with pytest.raises(ValueError, match="LoadVolumed"):
        inferer(tmp_path, label)(image, trained)
    with pytest.raises(ValueError, match="Segmenter"):
        inferer(tmp_path, label)(named(image), torch.nn.Identity())


@pytest.mark.parametrize("trained", ["decoder"], indirect=True)
def test_gradients_of_many_windows_are_those_of_all_at_once(
    trained: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Window by window, the gradient is that of the whole loss, computed here in one graph."""
    image, label = scan_and_label()
    with torch.no_grad():
        probabilities = SlidingWindowInferer(WINDOW)(image, trained).softmax(dim=1)
    refinement = SizeRefinement(trained, image, probabilities, WINDOW, 0.001)
    assert len(refinement.inputs) == 4
    taken: list[list[torch.Tensor]] = []
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self: taken.append([p.grad.clone() for p in refinement.weights])
    )
    expected_ml = float(label.sum()) / 1000
    refinement.run({0: expected_ml}, steps=1, learning_rate=1e-3)

    voxels = sum(answer[0, 0].numel() for _, _, answer in refinement.inputs)
    assert voxels == image.numel()
    volume, held = torch.zeros(1), torch.zeros(())
    for unrefined, tile, answer in refinement.inputs:
        logits = refinement._logits(unrefined, tile)
        volume = volume + refinement._volumes_ml(logits)
        held = held - (answer * logits.log_softmax(dim=1)).sum() / voxels
    whole = held + 0.1 * size_penalty(volume, torch.tensor([expected_ml]))
    for ours, theirs in zip(taken[0], torch.autograd.grad(whole, refinement.weights), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
    refinement.restore()


def test_the_penalty_is_that_of_fseft() -> None:
    expected = torch.tensor([10.0, 10.0, 10.0, 10.0])
    volume = torch.tensor([20.0, 5.0, 12.0, 0.0])
    torch.testing.assert_close(size_error(volume, expected), torch.tensor([-0.5, 0.5, -1 / 6, 1.0]))
    assert float(size_penalty(volume, expected)) == pytest.approx(0.2 + 0.2 + 0 + 0.7)


@pytest.mark.parametrize("shape", [(24, 26, 16), (7, 33, 16), (16, 16, 16)])
def test_tiles_cover_every_voxel_once(shape: tuple[int, int, int]) -> None:
    counted = np.zeros(shape, dtype=int)
    for tile in tiles(shape, WINDOW):
        view = counted[tile.place]
        assert all(side <= wanted for side, wanted in zip(view.shape, WINDOW, strict=True))
        view[tile.own] += 1
    assert (counted == 1).all()
