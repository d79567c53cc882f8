"""Bundles are checked before a server starts, and said to be broken by file and fault."""

import json
from pathlib import Path

import pytest
import torch

from medfm3d.inference import BundleError
from medfm3d.segmentation import Segmenter
from medfm3d.serving import find_bundle, fresh_bundle

PLAN = {"organs": {"liver": 1}, "modality": "MR", "spacing_mm": [1, 1, 1], "window": [16, 16, 16]}


@pytest.fixture
def bundle(tmp_path: Path, repository: Path) -> Path:
    """An adapted bundle with random weights."""
    folder = tmp_path / "liver bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    template = repository / "bundles" / "fewshot_organ_segmentation" / "configs"
    config = json.loads((template / "inference.json").read_text())
    config["plan"] = {"_target_": "medfm3d.adaptation.AdaptationPlan", **PLAN}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    (folder / "configs" / "metadata.json").write_text((template / "metadata.json").read_text())
    card = {"format": "medfm3d-segmenter-1", "plan": PLAN, "support": []}
    (folder / "models" / "segmenter.json").write_text(json.dumps(card))
    torch.save({"model": Segmenter(["liver"]).state_dict()}, folder / "models" / "model.pt")
    return folder


def test_adapted_bundle_is_served_from_its_place(bundle: Path) -> None:
    found = find_bundle(str(bundle))
    assert (found.name, found.path, found.organs) == ("liver bundle", bundle, {"liver": 1})
    assert found.trained and found.adapted


def broken_configs(bundle: Path) -> None:
    (bundle / "configs" / "inference.json").write_text('{"imports": ')


def cut_weights(bundle: Path) -> None:
    file = bundle / "models" / "model.pt"
    file.write_bytes(file.read_bytes()[:1000])


def other_weights(bundle: Path) -> None:
    torch.save({"model": Segmenter(["liver", "spleen"]).state_dict()}, bundle / "models" / "model.pt")


def no_metadata(bundle: Path) -> None:
    (bundle / "configs" / "metadata.json").unlink()


def large_id(bundle: Path) -> None:
    card = json.loads((bundle / "models" / "segmenter.json").read_text())
    card["plan"]["organs"] = {"liver": 300}
    (bundle / "models" / "segmenter.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (broken_configs, "inference.json: is not valid JSON"),
        (cut_weights, "model.pt: does not load into the bundle's network"),
        (other_weights, "model.pt: does not load into the bundle's network"),
        (no_metadata, "metadata.json: no such file"),
        (large_id, "ids of liver are above 255"),
    ],
)
def test_broken_bundle_is_named_with_its_fault(bundle: Path, spoil, fault: str) -> None:
    spoil(bundle)
    with pytest.raises(BundleError, match=fault):
        find_bundle(str(bundle))


def test_what_is_no_bundle_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        find_bundle(str(tmp_path / "absent"))
    with pytest.raises(BundleError, match=r"no bundle 'absent'; medfm3d ships .*fewshot"):
        find_bundle("absent")
    with pytest.raises(BundleError, match=r"serve --organs to outline them in Slicer"):
        find_bundle("fewshot_organ_segmentation")


def test_fresh_bundle_is_found_again_and_not_mistaken(tmp_path: Path, bundle: Path) -> None:
    organs = {"liver": 1, "spleen": 2}
    made = fresh_bundle(tmp_path / "bundles" / "mine", organs)
    assert not made.trained and made.adapted and made.organs == organs
    assert fresh_bundle(made.path, organs) == made
    with pytest.raises(BundleError, match="for organs liver=1, spleen=2; name another bundle by --name"):
        fresh_bundle(made.path, {"liver": 2})
    assert fresh_bundle(bundle, {"liver": 1}).trained  # by now it is trained
    with pytest.raises(ValueError, match="distinct ids"):
        fresh_bundle(tmp_path / "other", {"liver": 1, "spleen": 1})
