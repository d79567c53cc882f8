"""The streaming sliding window against MONAI's, and what it does that MONAI's does not."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.inferers import SlidingWindowInferer
from monai.transforms import Activationsd, Compose, Invertd, Orientationd, Spacingd
from torch import nn

from medfm3d.inference import ReduceToInputGridd, SkipAir, StreamingInferer, cell_writer
from medfm3d.inference.assessed_labels import read_soft_dice
from medfm3d.inference.output_grid import interpolate_along
from medfm3d.volumes import IntensityNormalized

CASES = [
    ((40, 70, 50), (32, 32, 32), 0.25, "gaussian", "constant"),
    ((20, 70, 50), (32, 24, 40), 0.5, "constant", "replicate"),
    ((33, 65, 97), (32, 32, 32), (0, 0.5, 0.7), "gaussian", "reflect"),
    ((16, 16, 16), (16, 16, 16), 0.5, "gaussian", "constant"),
    ((9, 31, 12), (16, 16, 16), 0.6, "gaussian", "replicate"),
    ((12, 40, 20), (16, 16, 16), (0.25, 0, 0.5), "constant", "circular"),
]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv3d(1, 5, 3, padding=1).eval()


def volume(*size: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("size", "window", "overlap", "mode", "padding"), CASES)
def test_scores_and_labels_equal_those_of_monai(network, size, window, overlap, mode, padding) -> None:
    x = volume(*size, batch=2)
    options = {"mode": mode, "padding_mode": padding, "cval": 0.5 if padding == "constant" else 0.0}
    with torch.no_grad():
        expected = SlidingWindowInferer(window, 3, overlap, **options)(x, network)
    logits = StreamingInferer(window, 3, overlap, reduction="logits", **options)(x, network)
    assert torch.allclose(logits, expected, atol=1e-5)
    labels = StreamingInferer(window, 3, overlap, reduction="labels", **options)(x, network)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), expected.argmax(1, keepdim=True))
    probabilities = StreamingInferer(window, 3, overlap, reduction="probabilities", **options)(x, network)
    assert (probabilities / 255 - expected.softmax(1)).abs().max() <= 0.5 / 255 + 1e-5
    several = StreamingInferer(window, 3, overlap, reduction="multilabel-labels", **options)(x, network)
    assert torch.equal(several.bool(), expected.sigmoid() > 0.5)


def test_the_width_of_the_blending_is_that_of_monai(network) -> None:
    x, options = volume(40, 30, 20), {"mode": "gaussian", "sigma_scale": (0.3, 0.2, 0.1)}
    with torch.no_grad():
        expected = SlidingWindowInferer(16, 2, 0.5, **options)(x, network)
    logits = StreamingInferer(16, 2, 0.5, reduction="logits", **options)(x, network)
    assert torch.allclose(logits, expected, atol=1e-5)
    usual = StreamingInferer(16, 2, 0.5, reduction="logits", mode="gaussian")(x, network)
    assert (usual - expected).abs().max() > 1e-3


def test_further_arguments_reach_the_network(network) -> None:
    def scaled(batch: torch.Tensor, factor: float, shift: float = 0.0) -> torch.Tensor:
        return network(batch) * factor + shift

    x = volume(20, 20, 20)
    plain = StreamingInferer(16, reduction="logits")(x, network)
    moved = StreamingInferer(16, reduction="logits")(x, scaled, 2.0, shift=1.0)
    assert torch.allclose(moved, 2 * plain + 1, atol=1e-5)


def test_half_precision_sums_stay_close(network) -> None:
    x = volume(40, 40, 60)
    exact = StreamingInferer(32, overlap=0.5, mode="gaussian", reduction="logits")(x, network)
    for dtype, tolerance in ((torch.float16, 0.01), (torch.bfloat16, 0.08)):
        close = StreamingInferer(32, overlap=0.5, mode="gaussian", reduction="logits", accumulate=dtype)(x, network)
        assert 0 < (close - exact).abs().max() < tolerance


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL"])
@pytest.mark.parametrize("spacing_mm", [(1.5, 1.5, 1.5), (0.8, 2.0, 1.0)])
def test_on_the_grid_of_the_file_it_equals_softmax_inversion_and_argmax(network, codes, spacing_mm) -> None:
    affine = torch.tensor([[0, 0, -1.2, 40], [0.9, 0, 0, -30], [0, 2.0, 0, 5], [0, 0, 0, 1]], dtype=torch.float64)
    stored = volume(45, 30, 50)[0].cumsum(3)
    meta = {"original_affine": affine, "spatial_shape": np.array([45, 30, 50])}
    to_network = Compose(
        [Orientationd("image", axcodes=codes, labels=None), Spacingd("image", spacing_mm, dtype=torch.float32)]
    )
    data = to_network({"image": MetaTensor(stored, affine=affine, meta=meta)})
    x = data["image"][None]
    x.meta.update(data["image"].meta)

    whole = SlidingWindowInferer((24, 16, 16), 2, 0.5, mode="gaussian", padding_mode="replicate")
    with torch.no_grad():
        data["pred"] = whole(x, network)[0]
    back = Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", to_network, orig_keys="image", nearest_interp=False, to_tensor=True),
        ]
    )
    probabilities = back(data)["pred"]
    assert probabilities.shape[1:] == stored.shape[1:]

    options = {"overlap": 0.5, "mode": "gaussian", "padding_mode": "replicate", "grid": "input"}
    ours = StreamingInferer((24, 16, 16), 2, reduction="probabilities", **options)(x, network)
    # MONAI resamples once to a grid of its own, in float32 coordinates; so do we, by another route.
    assert (ours[0] / 255 - probabilities).abs().max() < 0.01
    labels = StreamingInferer((24, 16, 16), 2, reduction="labels", **options)(x, network)
    assert labels.shape[1:] == stored.shape
    top = probabilities.topk(2, dim=0).values
    decided = top[0] - top[1] > 0.02
    assert decided.float().mean() > 0.9
    assert torch.equal(labels[0, 0][decided].long(), probabilities.argmax(0)[decided])
    assert torch.allclose(torch.as_tensor(labels.affine), affine)


@pytest.mark.parametrize("box", [None, (slice(6, 30), slice(0, 20), slice(9, 28))])
def test_logits_at_hand_are_reduced_to_the_same_labels(network, box) -> None:
    affine = torch.tensor([[0, -1.2, 0, 40], [0.9, 0, 0, -30], [0, 0, 2.0, 5], [0, 0, 0, 1]], dtype=torch.float64)
    meta = {"original_affine": affine, "spatial_shape": np.array([45, 30, 20])}
    stored = MetaTensor(volume(45, 30, 20)[0].cumsum(3), affine=affine, meta=meta)
    prepare = Compose([Orientationd("image", axcodes="RAS", labels=None), Spacingd("image", 1.1, dtype=torch.float32)])
    scan = prepare({"image": stored})["image"]
    batch = list_data_collate([{"image": scan}])["image"]
    options = {"overlap": 0.5, "mode": "gaussian"}
    logits = decollate_batch(StreamingInferer(16, reduction="logits", **options)(batch, network))[0]
    if box is None:
        streaming = StreamingInferer(16, reduction="assessed-labels-entropy", grid="input", **options)
        (expected,) = decollate_batch(streaming(batch, network))
    else:
        # Outside of the box nothing can be but background.
        kept = torch.full_like(logits, -20.0)
        kept[0] = 20
        kept[(slice(None), *box)] = logits[(slice(None), *box)].as_tensor()
        whole = {"image": scan, "pred": MetaTensor(kept.as_tensor(), affine=logits.affine)}
        expected = ReduceToInputGridd("pred", entropy=True)(whole)["pred"]
        logits = MetaTensor(logits[(slice(None), *box)].as_tensor()).copy_meta_from(logits)
        starts = torch.tensor([float(span.start) for span in box], dtype=torch.float64)
        logits.affine = logits.affine.clone()
        logits.affine[:3, 3] += logits.affine[:3, :3] @ starts
    labels = ReduceToInputGridd("pred", entropy=True)({"image": scan, "pred": logits})["pred"]
    assert labels.shape == (2, 45, 30, 20)
    assert torch.allclose(labels.affine, affine)
    # At the faces of a box its outermost voxels go on for half a voxel, where the other version fades out.
    assert (labels[0] != expected[0]).float().mean() < (1e-4 if box is None else 0.03)
    if box is None:
        assert (labels[1].int() - expected[1].int()).abs().max() <= 1
        assert read_soft_dice(labels) == pytest.approx(read_soft_dice(expected), abs=1e-4)


def test_results_survive_being_taken_from_a_batch(network) -> None:
    affine = torch.diag(torch.tensor([-2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    meta = {"original_affine": affine, "spatial_shape": np.array([20, 21, 22])}
    stored = {"image": MetaTensor(volume(20, 21, 22)[0], affine=affine, meta=meta)}
    batch = list_data_collate([Orientationd("image", axcodes="RAS", labels=None)(stored)])
    (mask,) = decollate_batch(StreamingInferer(16, grid="input")(batch["image"], network))
    assert mask.shape == (1, 20, 21, 22)
    assert torch.allclose(mask.affine, affine)
    assert not mask.applied_operations


@pytest.mark.parametrize("limit", [1, 300, 4000])
def test_resampled_scores_are_held_in_small_parts(network, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    affine = torch.diag(torch.tensor([0.4, 0.5, 3.0, 1.0], dtype=torch.float64))
    meta = {"original_affine": affine, "spatial_shape": np.array([60, 50, 12])}
    x = MetaTensor(volume(24, 25, 36), affine=torch.eye(4, dtype=torch.float64), meta=meta)
    inferer = StreamingInferer(16, 1, 0.5, reduction="probabilities", grid="input")
    whole = inferer(x, network)
    held = []

    def watched(scores: torch.Tensor, axis: int, places: np.ndarray) -> torch.Tensor:
        result = interpolate_along(scores, axis, places)
        held.append(result.numel())
        return result

    monkeypatch.setattr(cell_writer, "CHUNK_VALUES", 5 * limit)
    monkeypatch.setattr(cell_writer, "interpolate_along", watched)
    parts = inferer(x, network)
    assert (parts.int() - whole.int()).abs().max() <= 1  # rounding
    # Between two voxels of the output lie up to 4 of the network's along the last axis: fewer are never sampled.
    assert max(held) <= 5 * max(limit, 4 * 4)


def test_a_grid_that_is_turned_is_refused(network) -> None:
    turned = torch.eye(4, dtype=torch.float64)
    turned[:2, :2] = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    meta = {"original_affine": turned, "spatial_shape": (20, 20, 20)}
    scan = MetaTensor(volume(20, 20, 20), affine=torch.eye(4, dtype=torch.float64), meta=meta)
    with pytest.raises(ValueError, match="turned against"):
        StreamingInferer(16, grid="input")(scan, network)
    with pytest.raises(ValueError, match="known from original_affine"):
        StreamingInferer(16, grid="input")(volume(20, 20, 20), network)


def test_skipped_windows_cost_nothing_and_are_background(network) -> None:
    x = torch.full((1, 1, 96, 32, 32), -3.0)
    x[:, :, 20:40] = volume(20, 32, 32)
    seen = []

    def counted(batch: torch.Tensor) -> torch.Tensor:
        seen.append(len(batch))
        return network(batch) + torch.tensor([0.0, 9, 0, 0, 0]).view(1, -1, 1, 1, 1)

    inferer = StreamingInferer(16, overlap=0.5, skip=lambda window: bool((window <= -3).all()))
    labels = inferer(x, counted)
    windows = 11 * 3 * 3
    assert sum(seen) < windows / 2
    assert (labels[:, :, 20:40] == 1).all()
    assert (labels[:, :, 56:] == 0).all()
    logits = StreamingInferer(16, overlap=0.5, skip=inferer.skip, reduction="logits")(x, counted)
    assert (logits[:, 0, 56:] == 0).all()
    assert (logits[:, 1:, 56:] < -10).all()


def test_air_of_a_ct_is_skipped_and_nothing_else() -> None:
    hounsfield = torch.full((1, 60, 32, 32), -1000.0)
    hounsfield[:, 40:] = 30
    hounsfield[:, 10, 10, 10] = -150  # a vessel in a lung
    x = IntensityNormalized("image", modality="CT")({"image": hounsfield})["image"]
    skip = SkipAir()
    assert [skip(x[:, start : start + 8]) for start in (0, 8, 20, 36)] == [True, False, True, False]


def test_a_scan_of_which_every_window_is_skipped_is_background(network) -> None:
    labels = StreamingInferer(16, skip=lambda window: True)(volume(40, 20, 20), network)
    assert (labels[:, :, 16:] == 0).all()


def test_mirrorings_are_averaged(network) -> None:
    x = volume(16, 16, 16)
    with torch.no_grad():
        looks = [network(x.flip(dims)).flip(dims) for dims in ([], [2], [4], [2, 4])]
    mirrored = StreamingInferer(16, reduction="logits", mirror_axes=(0, 2))(x, network)
    assert torch.allclose(mirrored, sum(looks) / 4, atol=1e-5)


def test_out_of_memory_halves_the_batch_and_says_so(network) -> None:
    sizes = []

    def hungry(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("no room")
        return network(batch)

    x = volume(64, 32, 16)
    with pytest.warns(UserWarning, match="with 8 windows of 16x16x16 voxels at once; going on with 4") as warned:
        labels = StreamingInferer(16, 8, 0.5)(x, hungry)
    assert len(warned) == 2
    assert sizes.count(8) == 1
    assert sizes.count(4) == 1, "what did not fit is tried once"
    assert torch.equal(labels, StreamingInferer(16, 1, 0.5)(x, network))


def test_no_room_for_one_window_says_what_to_do() -> None:
    def starving(batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    with pytest.raises(MemoryError, match="use smaller windows"):
        StreamingInferer(16)(volume(16, 16, 16), starving)

    def broken(batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("weights do not fit")

    with pytest.raises(RuntimeError, match="weights do not fit"):
        StreamingInferer(16)(volume(16, 16, 16), broken)


def test_several_devices_share_the_windows(network) -> None:
    x = volume(60, 32, 40)
    alone = StreamingInferer(16, 2, 0.5, reduction="logits")(x, network)
    shared = StreamingInferer(16, 2, 0.5, reduction="logits", devices=("cpu", "cpu"))(x, network)
    assert torch.equal(alone, shared)
    with pytest.raises(TypeError, match="torch module"):
        StreamingInferer(16, devices=("cpu", "cpu"))(x, lambda batch: batch)


def test_precision_and_layout_are_options(network) -> None:
    x = volume(32, 32, 32)
    layouts = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Conv3d(1, 4, 1), nn.Conv3d(4, 5, 3, padding=1))

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            weight = self.inner[1].weight
            layouts.append(weight.is_contiguous(memory_format=torch.channels_last_3d))
            return self.inner(batch)

    watched = Watched().eval()
    exact = StreamingInferer(16, reduction="logits")(x, watched)
    assert not any(layouts)
    halved = StreamingInferer(16, reduction="logits", autocast=torch.bfloat16)(x, watched)
    assert 0 < (halved - exact).abs().max() < 0.1
    layouts.clear()
    last = StreamingInferer(16, reduction="logits", channels_last=True)(x, watched)
    assert layouts and all(layouts)
    assert torch.allclose(last, exact, atol=1e-5)


def test_a_compiled_network_says_the_same(network) -> None:
    traced = []

    class Traced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Conv3d(1, 3, 1)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            traced.append(torch.compiler.is_compiling())
            return self.inner(batch).relu()

    x, eager = volume(20, 20, 20), Traced().eval()
    expected = StreamingInferer(16, 2, reduction="logits")(x, eager)
    assert not any(traced)
    compiled = StreamingInferer(16, 2, reduction="logits", compile=True)
    assert torch.allclose(compiled(x, eager), expected, atol=1e-5)
    assert any(traced)
    assert torch.allclose(compiled(2 * x, eager), StreamingInferer(16, 2, reduction="logits")(2 * x, eager), atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("sums_on", ["cpu", "cuda"])
def test_batches_go_to_a_gpu_ahead_of_the_network(network, sums_on: str) -> None:
    x = volume(60, 32, 40)
    expected = StreamingInferer(16, 2, 0.5, reduction="logits")(x, network)
    on_gpu = StreamingInferer(16, 2, 0.5, reduction="logits", sw_device="cuda", device=sums_on)
    logits = on_gpu(x, copy.deepcopy(network).cuda())
    assert logits.device.type == sums_on
    assert torch.allclose(logits.cpu(), expected, atol=1e-3)


def test_the_result_can_be_a_file(network, tmp_path) -> None:
    x = volume(40, 20, 30)
    file = tmp_path / "labels.npy"
    labels = StreamingInferer(16, output_file=file)(x, network)
    assert np.array_equal(np.load(file), labels[0].numpy())
    with pytest.raises(ValueError, match="one volume"):
        StreamingInferer(16, output_file=file)(volume(20, 20, 20, batch=2), network)


def test_other_outputs_are_refused(network) -> None:
    with pytest.raises(TypeError, match="one tensor"):
        StreamingInferer(16)(volume(16, 16, 16), lambda batch: (batch, batch))
    with pytest.raises(TypeError, match="size of its windows"):
        StreamingInferer(16)(volume(16, 16, 16), lambda batch: batch[..., ::2])
    with pytest.raises(ValueError, match="reduction must be one of"):
        StreamingInferer(16, reduction="argmax")


PEAK = """
import sys, torch
from monai.inferers import SlidingWindowInferer
from medfm3d.inference import ReduceToInputGridd, SkipAir, StreamingInferer
from medfm3d.inference.assessed_labels import read_soft_dice
from medfm3d.volumes import IntensityNormalized
torch.set_num_threads(1)
network = torch.nn.Conv3d(1, 40, 1)
x = torch.zeros(1, 1, 512, 64, 64)
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
with torch.no_grad():
    if sys.argv[1] == "ours":
        StreamingInferer(32, overlap=0.25, mode="gaussian")(x, network)
    else:
        SlidingWindowInferer(32, overlap=0.25, mode="gaussian")(x, network)
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_memory_does_not_hold_all_classes_of_the_volume() -> None:
    def peak(whose: str) -> int:
        answer = subprocess.run([sys.executable, "-c", PEAK, whose], check=True, capture_output=True, text=True)
        return int(answer.stdout.split()[-1])

    whole_kb = 40 * 512 * 64 * 64 * 4 / 1024
    assert peak("monai") > whole_kb
    assert peak("ours") < whole_kb / 3


def test_directions_of_four_decimals_lead_back_to_the_scan(network) -> None:
    """MONAI makes axes orthogonal where it resamples: a scan's own are off by a part of a voxel at its far end."""
    along = [torch.arange(side) * size for side, size in zip((256, 40, 12), (0.5, 0.5, 2.0), strict=True)]
    voxels = sum(torch.sin(mm / 15) for mm in torch.meshgrid(*along, indexing="ij"))[None]
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    masks = []
    for directions in (rotation, rotation.round(4)):
        affine = torch.eye(4, dtype=torch.float64)
        affine[:3, :3] = torch.from_numpy(directions * [0.5, 0.5, 2.0])
        meta = {"original_affine": affine, "spatial_shape": np.array([256, 40, 12])}
        stored = MetaTensor(voxels, affine=affine, meta=meta)
        prepare = Compose([Orientationd("image", axcodes="RAS", labels=None), Spacingd("image", 1.5)])
        batch = list_data_collate([prepare({"image": stored})])["image"]
        masks.append(StreamingInferer(16, grid="input", padding_mode="replicate")(batch.float(), network))
        assert masks[-1].shape[2:] == (256, 40, 12)
    # Where the network's voxels lie between those of the scan is another matter for axes that are not orthogonal.
    apart, shifted = ((mask != masks[0]).float().mean() for mask in (masks[1], masks[0].roll(3, 2)))
    assert apart < shifted / 2


def test_what_is_assessed_on_the_networks_grid_is_as_sure_as_its_logits_say(network) -> None:
    x = MetaTensor(volume(40, 36, 30))
    options = {"overlap": 0.5, "mode": "gaussian"}
    (assessed,) = decollate_batch(StreamingInferer(16, reduction="assessed-labels-entropy", **options)(x, network))
    probabilities = StreamingInferer(16, reduction="logits", **options)(x, network)[0].softmax(0)
    labels = probabilities.argmax(0)
    assert torch.equal(assessed[0].long(), labels)
    entropy = torch.special.entr(probabilities).sum(0) / np.log(len(probabilities))
    assert (assessed[1] - 255 * entropy).abs().max() <= 1
    soft_dice = [float(2 * p[labels == c].sum() / (p.sum() + (labels == c).sum())) for c, p in enumerate(probabilities)]
    assert read_soft_dice(assessed) == pytest.approx(soft_dice[1:], abs=0.01)
