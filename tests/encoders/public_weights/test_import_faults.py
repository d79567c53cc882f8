"""What is refused, and what a refusal says; the catalogue itself."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from medfm3d.encoders import ENCODERS, WeightsError, create_encoder, read_header, window_multiple
from medfm3d.encoders.public_weights import (
    catalogue_entry,
    find_encoder,
    import_weights,
    imported_weights,
    read_catalogue,
    read_checkpoint,
    weights_folder,
)


@pytest.mark.parametrize("name", list(read_catalogue()))
def test_every_entry_is_whole(name: str, repository: Path) -> None:
    schema = repository / "medfm3d" / "encoders" / "public_weights" / "schema" / "catalogue.schema.json"
    entry = catalogue_entry(name)
    jsonschema.validate(json.loads(json.dumps(asdict(entry))), json.loads(schema.read_text()))
    rules = entry.checkpoint
    for pattern in (*rules["ignore"], *(pattern for pattern, _ in rules["rename"] + rules["take"])):
        re.compile(pattern)
    with torch.device("meta"):
        encoder = create_encoder(entry.encoder["architecture"], **entry.encoder["arguments"])
    assert set(rules["input_projections"]) <= set(encoder.state_dict())
    open_licences = ("CC BY 4.0", "Apache-2.0 (model card")
    assert entry.licence["warning"] or entry.licence["name"].startswith(open_licences), "a warning is wanted"


def test_window_multiples_are_the_coarsest_strides() -> None:
    expected = {"vit_tiny": 8, "primus_medium": 8, "resenc_large": 32, "swin_base": 32, "segresnet": 8, "vista3d": 16}
    assert {name: window_multiple(name) for name in expected} == expected
    assert expected.keys() <= ENCODERS.keys()


class Payload:
    """What a pickle can do: run a command as soon as it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "was_here"
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Payload(marker)}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil\.pth: holds Python objects .*safetensors"):
        import_weights(tmp_path / "evil.pth", "suprem_segresnet", folder=tmp_path)
    assert not marker.exists() and not imported_weights(tmp_path)


def test_numpy_numbers_of_a_training_log_are_read(tmp_path: Path) -> None:
    log = {"loss": np.float64(0.5), "steps": np.int64(7), "best": np.float32(0.25), "done": np.bool_(True)}
    torch.save({"network_weights": {"a": torch.ones(1)}, **log}, tmp_path / "logged.pth")
    content = read_checkpoint(tmp_path / "logged.pth")
    assert content["loss"] == 0.5 and content["steps"] == 7 and content["done"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "download it again"), (b"not a checkpoint at all", "download it again"), (None, "no such file")],
)
def test_unreadable_files_are_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    for suffix in (".pth", ".safetensors"):
        file = tmp_path / f"broken{suffix}"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(WeightsError, match=rf"broken\{suffix}.*{message}"):
            read_checkpoint(file)


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "config": {"lr": 0.1}}, tmp_path / "config.pth")
    with pytest.raises(WeightsError, match=r"config\.pth: no tensors under .*keys epoch, config"):
        import_weights(tmp_path / "config.pth", "vista3d", folder=tmp_path)
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"list\.pth: holds a list"):
        read_checkpoint(tmp_path / "list.pth")


def test_what_fits_in_part_is_listed_and_refused_unless_allowed(build_original: Callable, tmp_path: Path) -> None:
    original = build_original("segresnet")
    state = original.checkpoint["net"]
    del state["module.down_layers.2.2.conv2.conv.weight"]
    state["module.down_layers.0.1.norm1.weight"] = torch.ones(9)
    state["module.novel.weight"] = torch.ones(2)
    torch.save(original.checkpoint, tmp_path / "part.pth")
    where = {"folder": tmp_path / "store", "arguments": original.arguments}
    with pytest.raises(WeightsError) as refusal:
        import_weights(tmp_path / "part.pth", "suprem_segresnet", **where)
    words = str(refusal.value)
    assert "part.pth" in words and "1 missing: network.stages.2.2.conv2.conv.weight" in words
    assert "1 of another shape: network.stages.0.1.norm1.weight (9,) for (8,)" in words
    assert "1 unexpected: module.novel.weight" in words
    share = float(re.search(r"allow a share of ([\d.]+)", words)[1])
    assert 0.5 < share < 1 and not imported_weights(tmp_path / "store")
    with pytest.raises(WeightsError):
        import_weights(tmp_path / "part.pth", "suprem_segresnet", least_share=share + 0.01, **where)
    imported = import_weights(tmp_path / "part.pth", "suprem_segresnet", least_share=share, **where)
    kept = read_header(imported.path)["provenance"]
    assert kept["share_loaded"] == imported.fit.share < 1 and len(kept["not_loaded"]) == 2


def test_the_wrong_network_is_named(build_original: Callable, tmp_path: Path) -> None:
    """Full sizes on purpose, on random weights of our own: other entries are tried in their published sizes."""
    own = create_encoder("segresnet")
    names = {"network.stem": "convInit", "network.stages": "down_layers"}
    state = {key: value for key, value in own.state_dict().items()}
    for ours, theirs in names.items():
        state = {key.replace(ours, f"module.{theirs}"): value for key, value in state.items()}
    torch.save({"net": state}, tmp_path / "segresnet.pth")
    with pytest.raises(WeightsError, match=r"segresnet\.pth: does not hold suprem_unet; .*It fits suprem_segresnet\."):
        import_weights(tmp_path / "segresnet.pth", "suprem_unet", folder=tmp_path)
    original = build_original("primus")
    torch.save(original.checkpoint, tmp_path / "primus.pth")
    with pytest.raises(WeightsError, match=r"primus\.pth: .*says PrimusM, but openmind_resenc_l_mae is a ResEncL"):
        import_weights(tmp_path / "primus.pth", "openmind_resenc_l_mae", folder=tmp_path)
    with pytest.raises(WeightsError, match="no weights 'nonsense'"):
        import_weights(tmp_path / "primus.pth", "nonsense", folder=tmp_path)


def test_positions_without_a_plan_are_a_cube(build_original: Callable, tmp_path: Path) -> None:
    original = build_original("primus")
    weights = {name.removeprefix("encoder."): value for name, value in original.checkpoint["network_weights"].items()}
    for count, window in ((27, [24, 24, 24]), (30, None)):
        weights["eva.pos_embed"] = torch.randn(1, count, 48)
        torch.save({"network_weights": weights}, tmp_path / "bare.pth")
        where = {"folder": tmp_path, "arguments": original.arguments}
        if window is None:
            with pytest.raises(WeightsError, match=r"bare\.pth: it has 30 learnt positions, which are no cube"):
                import_weights(tmp_path / "bare.pth", "openmind_primus_m_mae", **where)
        else:
            imported = import_weights(tmp_path / "bare.pth", "openmind_primus_m_mae", **where)
            assert imported.arguments["absolute_window"] == window and imported.fit.share == 1


def test_a_layer_saved_twice_must_agree_with_itself(build_original: Callable, tmp_path: Path) -> None:
    original = build_original("resenc")
    original.checkpoint["network_weights"]["encoder.stem.convs.0.conv.weight"] = torch.zeros(4, 1, 3, 3, 3)
    torch.save(original.checkpoint, tmp_path / "torn.pth")
    with pytest.raises(WeightsError, match=r"torn\.pth: two different tensors of the checkpoint are network\.stem"):
        import_weights(tmp_path / "torn.pth", "openmind_resenc_l_mae", folder=tmp_path, arguments=original.arguments)


def test_a_checksum_that_is_known_is_checked(build_original, tmp_path: Path, monkeypatch) -> None:
    original = build_original("segresnet")
    torch.save(original.checkpoint, tmp_path / "other.pth")
    entry = catalogue_entry("suprem_segresnet")
    monkeypatch.setitem(entry.file, "sha256", "0" * 64)
    with pytest.raises(WeightsError, match=r"other\.pth: is not the published supervised_suprem"):
        import_weights(tmp_path / "other.pth", entry.name, folder=tmp_path, arguments=original.arguments)


def test_encoders_are_found_by_name_and_by_file(build_original, tmp_path: Path, monkeypatch) -> None:
    original = build_original("segresnet")
    torch.save(original.checkpoint, tmp_path / "theirs.pth")
    monkeypatch.setenv("MEDFM3D_WEIGHTS", str(tmp_path / "store"))
    assert weights_folder() == tmp_path / "store"
    with pytest.raises(WeightsError, match=r"vista3d: not imported yet; download model\.pt from https"):
        find_encoder("vista3d")
    imported = import_weights(tmp_path / "theirs.pth", "suprem_segresnet", arguments=original.arguments)
    assert imported.path.parent == tmp_path / "store"
    for name in ("suprem_segresnet", imported.path):
        found = find_encoder(name)
        assert found.architecture == "segresnet" and found.provenance["source_sha256"]
        assert found.provenance["licence"]["name"] == "CC BY-NC-ND"
    with pytest.raises(WeightsError, match="no weights 'nonsense': imported are suprem_segresnet"):
        find_encoder("nonsense")
    assert not [file for file in (tmp_path / "store").iterdir() if file != imported.path]
