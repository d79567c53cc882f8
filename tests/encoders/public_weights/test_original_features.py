"""Weights of the original architectures, read by the catalogue's rules, give the features of the original networks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from medfm3d.encoders import load_encoder, read_header
from medfm3d.encoders.input_intensity import RescaledEncoder
from medfm3d.encoders.public_weights import import_weights

BARE = {"kind": "z-score"}  # no change of scale in front


def same_features(original, encoder) -> None:
    """Compare on a window that is unlike along each axis, and is random where the original sees it."""
    window = torch.randn(1, 1, *original.window)
    theirs = original.features(window.permute(0, 1, 4, 3, 2) if original.reversed_axes else window)
    with torch.no_grad():
        ours = encoder(window)
    assert len(ours) == len(theirs)
    for mine, expected in zip(ours, theirs, strict=True):
        expected = expected.permute(0, 1, 4, 3, 2) if original.reversed_axes else expected
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)


def test_features_are_those_of_the_original(original, tmp_path: Path) -> None:
    torch.save(original.checkpoint, tmp_path / "theirs.pth")
    for name in original.names:
        imported = import_weights(
            tmp_path / "theirs.pth", name, folder=tmp_path, arguments=original.arguments, intensity=BARE
        )
        assert imported.fit.share == 1 and not imported.fit.unexpected, imported.fit.summary()
        same_features(original, load_encoder(imported.path))


def test_a_safetensors_file_serves_as_well(build_original: Callable, tmp_path: Path) -> None:
    original = build_original("segresnet")
    save_file(original.checkpoint["net"], tmp_path / "theirs.safetensors")
    imported = import_weights(
        tmp_path / "theirs.safetensors",
        "suprem_segresnet",
        folder=tmp_path / "store",
        arguments=original.arguments,
        intensity=BARE,
    )
    same_features(original, load_encoder(imported.path))


@pytest.mark.parametrize("name", ["primus", "resenc", "tang", "vista3d", "segresnet", "genesis_unet", "stunet"])
def test_equal_channels_give_what_one_gave(name: str, build_original: Callable, tmp_path: Path) -> None:
    original = build_original(name)
    torch.save(original.checkpoint, tmp_path / "theirs.pth")
    imported = import_weights(
        tmp_path / "theirs.pth",
        original.names[0],
        folder=tmp_path,
        in_channels=3,
        arguments=original.arguments,
        intensity=BARE,
    )
    assert imported.fit.share == 1 and "3 channels" in next(iter(imported.fit.adapted.values()))
    encoder = load_encoder(imported.path)
    same_features(original, lambda window: encoder(window.expand(-1, 3, -1, -1, -1)))


def test_several_channels_are_summed_to_one(build_original: Callable, tmp_path: Path) -> None:
    original = build_original("segresnet")
    kernel = original.checkpoint["net"]["module.convInit.conv.weight"]
    original.checkpoint["net"]["module.convInit.conv.weight"] = torch.cat([0.25 * kernel, 0.75 * kernel], dim=1)
    torch.save(original.checkpoint, tmp_path / "theirs.pth")
    imported = import_weights(
        tmp_path / "theirs.pth", original.names[0], folder=tmp_path, arguments=original.arguments, intensity=BARE
    )
    same_features(original, load_encoder(imported.path))


def test_positions_are_resized_to_another_window(build_original: Callable, tmp_path: Path) -> None:
    """A grid twice as fine has, in the middle of its tokens, means of the learnt positions around them."""
    original = build_original("primus")
    weights = original.checkpoint["network_weights"]
    original.checkpoint["nnssl_adaptation_plan"]["pretrain_patch_size"] = [16, 16, 16]  # overrides the configuration's
    weights["encoder.eva.pos_embed"] = torch.arange(8.0).view(1, 8, 1).expand(1, 8, 48).contiguous()
    torch.save(original.checkpoint, tmp_path / "theirs.pth")
    same = import_weights(tmp_path / "theirs.pth", original.names[0], folder=tmp_path, arguments=original.arguments)
    assert same.arguments["absolute_window"] == [16, 16, 16]
    finer = {**original.arguments, "absolute_window": (32, 32, 32)}
    imported = import_weights(tmp_path / "theirs.pth", original.names[0], folder=tmp_path, arguments=finer)
    assert imported.fit.share == 1 and "resized" in imported.fit.adapted["eva.pos_embed"]
    positions = load_encoder(imported.path).eva.pos_embed[0, :, 0].view(4, 4, 4)
    assert positions[0, 0, 0] == 0 and positions[-1, -1, -1] == 7
    torch.testing.assert_close(positions[1:3, 1:3, 1:3].mean(), torch.tensor(3.5))
    assert positions[-1, 0, 0] == 1 and positions[0, 0, -1] == 4, "x runs along the first axis, z along the last"


def test_hounsfield_units_arrive_as_in_training(build_original: Callable, tmp_path: Path) -> None:
    """What SuPreM scales from -175..250 HU to 0..1 reaches the network so, from medfm3d's own normalisation."""
    from medfm3d.volumes import IntensityNormalized

    original = build_original("segresnet")
    torch.save(original.checkpoint, tmp_path / "theirs.pth")
    imported = import_weights(
        tmp_path / "theirs.pth", "suprem_segresnet", folder=tmp_path, arguments=original.arguments
    )
    encoder = load_encoder(imported.path)
    assert isinstance(encoder, RescaledEncoder)
    hu = torch.linspace(-1000, 1500, 8 * 12 * 16).view(1, 8, 12, 16)
    normalised = IntensityNormalized("image", modality="CT")({"image": hu})["image"][None]
    theirs = original.features(((hu[None] + 175) / 425).clamp(0, 1))
    with torch.no_grad():
        ours = encoder(normalised)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)


def test_statistics_of_nnunet_are_undone_too(build_original: Callable, tmp_path: Path) -> None:
    from medfm3d.volumes import IntensityNormalized

    original = build_original("stunet")
    torch.save(original.checkpoint, tmp_path / "theirs.pth")
    statistics = {"kind": "hu-statistics", "clip_hu": [-150.0, 280.0], "mean_hu": 40.0, "deviation_hu": 60.0}
    imported = import_weights(
        tmp_path / "theirs.pth", "stunet_large", folder=tmp_path, arguments=original.arguments, intensity=statistics
    )
    assert read_header(imported.path)["provenance"]["intensity"] == statistics
    hu = torch.randn(1, 8, 12, 16) * 300
    normalised = IntensityNormalized("image", modality="CT")({"image": hu})["image"][None]
    theirs = original.features(((hu[None].clamp(-150, 280) - 40) / 60).permute(0, 1, 4, 3, 2))
    with torch.no_grad():
        ours = load_encoder(imported.path)(normalised)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected.permute(0, 1, 4, 3, 2), atol=1e-4, rtol=1e-4)
