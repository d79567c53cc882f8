"""Adapted bundles in files for other runtimes: by MONAI's own commands, and by medfm3d export."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from monai.networks.utils import convert_to_onnx
from typer.testing import CliRunner

from medfm3d.cli.app import app
from medfm3d.inference import (
    BundleError,
    CaseSegmenter,
    ExportFormat,
    OnnxNetwork,
    bundle_template,
    compile_by_tensorrt,
    export_network,
    read_plan,
)
from medfm3d.inference.workflow import open_workflow
from medfm3d.segmentation import Segmenter
from medfm3d.volumes import read_label
from medfm3d.volumes.errors import causes

BundleCommand = Callable[..., object]


# What MONAI's export commands are told of an adapted bundle, in whose folder they run.
PLACES = {
    "net_id": "network_def",
    "ckpt_file": "models/model.pt",
    "meta_file": "configs/metadata.json",
    "config_file": "configs/inference.json",
}


def windows(bundle: Path, count: int) -> torch.Tensor:
    return torch.randn(count, 1, *read_plan(bundle).window, generator=torch.Generator().manual_seed(5))


def logits(bundle: Path, image: torch.Tensor) -> torch.Tensor:
    network = CaseSegmenter(bundle, {"datalist": [], "device": "cpu", "network_def#precision": "float32"}).network
    with torch.no_grad():
        return network(image)


@pytest.fixture(scope="module")
def onnx_file(adapted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("onnx") / "network.onnx"
    report = file.with_suffix(".json")
    done = CliRunner().invoke(app, ["export", "--bundle", str(adapted), "--output", str(file), "--json", str(report)])
    assert done.exit_code == 0, done.output
    told = json.loads(report.read_text())
    assert told["largest_difference"] < 1e-3
    assert told["size_bytes"] == file.stat().st_size
    assert [path.name for path in file.parent.iterdir() if path != report] == [file.name]
    return file


@pytest.mark.slow
def test_monai_exports_torchscript(adapted: Path, monai_bundle: BundleCommand, tmp_path: Path) -> None:
    monai_bundle("ckpt_export", adapted, filepath=tmp_path / "model.ts", use_trace=True, **PLACES)
    image = windows(adapted, 3)
    extra = {"metadata.json": ""}
    exported = torch.jit.load(str(tmp_path / "model.ts"), _extra_files=extra)
    with torch.no_grad():
        torch.testing.assert_close(exported(image), logits(adapted, image), atol=1e-3, rtol=0)
    assert json.loads(extra["metadata.json"])["network_data_format"]["inputs"]["image"]["num_channels"] == 1


@pytest.mark.slow
def test_monai_exports_onnx(adapted: Path, monai_bundle: BundleCommand, tmp_path: Path) -> None:
    monai_bundle("onnx_export", adapted, filepath=tmp_path / "model.onnx", **PLACES)
    image = windows(adapted, 1)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    np.testing.assert_allclose(given, logits(adapted, image).numpy(), atol=1e-3)


@pytest.mark.parametrize("format", [ExportFormat.TORCHSCRIPT, ExportFormat.TORCH_EXPORT])
def test_torch_files_give_the_bundles_logits_for_any_number_of_windows(
    adapted: Path, format: ExportFormat, tmp_path: Path
) -> None:
    told = export_network(adapted, tmp_path / "network.bin", format)
    assert told["largest_difference"] < 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["network.bin"]
    with (tmp_path / "network.bin").open("rb") as file:
        network = torch.jit.load(file) if format == ExportFormat.TORCHSCRIPT else torch.export.load(file).module()
    image = windows(adapted, 3)
    with torch.no_grad():
        torch.testing.assert_close(network(image), logits(adapted, image), atol=1e-3, rtol=0)


def test_onnx_says_what_it_was_made_from(adapted: Path, onnx_file: Path) -> None:
    told = {entry.key: entry.value for entry in onnx.load(str(onnx_file)).metadata_props}
    assert json.loads(told["medfm3d_organs"]) == read_plan(adapted).organs
    assert told["medfm3d_window"].split() == [str(side) for side in read_plan(adapted).window]
    network = OnnxNetwork(onnx_file, adapted / "models" / "model.pt")
    image = windows(adapted, 3)
    torch.testing.assert_close(network(image), logits(adapted, image), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="takes windows of"):
        network(image[..., :8])


def test_segment_runs_the_onnx_file(adapted: Path, onnx_file: Path, small_cohort: Path, tmp_path: Path) -> None:
    scan = min((small_cohort / "imagesTr").glob("*.nii.gz"))
    masks = []
    for name, options in {"torch": [], "onnx": ["--onnx", str(onnx_file)]}.items():
        words = ["segment", "--bundle", str(adapted), "--input", str(scan), "--output", str(tmp_path / name)]
        done = CliRunner().invoke(app, [*words, "--device", "cpu", *options])
        assert done.exit_code == 0, done.output
        masks.append(read_label(tmp_path / name / scan.name).array)
    assert masks[0].any()
    # Voxels on the fence may fall to either side.
    assert np.mean(masks[0] != masks[1]) < 1e-3


@pytest.mark.slow
def test_monai_runs_the_onnx_file(
    adapted: Path, onnx_file: Path, small_cohort: Path, tmp_path: Path, run_config: BundleCommand
) -> None:
    (tmp_path / "scans").mkdir()
    scan = min((small_cohort / "imagesTr").glob("*.nii.gz"))
    shutil.copy(scan, tmp_path / "scans")
    where = {"dataset_dir": tmp_path / "scans", "output_dir": tmp_path / "masks", "device": "cpu"}
    run_config(adapted, "inference", tmp_path, onnx_file=onnx_file, **where)
    assert read_label(tmp_path / "masks" / scan.name).array.any()


def test_int8_is_smaller_and_says_how_much_it_changes(adapted: Path, onnx_file: Path, tmp_path: Path) -> None:
    told = export_network(adapted, tmp_path / "int8.onnx", ExportFormat.ONNX, int8=True)
    assert told["size_bytes"] < 0.6 * onnx_file.stat().st_size
    assert told["changed_voxels"] < 0.05
    kinds = {node.op_type for node in onnx.load(str(tmp_path / "int8.onnx")).graph.node}
    assert "MatMulInteger" in kinds
    with pytest.raises(ValueError, match="onnx alone"):
        export_network(adapted, tmp_path / "int8.ts", ExportFormat.TORCHSCRIPT, int8=True)


def test_a_file_of_other_weights_is_refused(adapted: Path, onnx_file: Path, tmp_path: Path) -> None:
    retrained = tmp_path / "model.pt"
    state = torch.load(adapted / "models" / "model.pt", weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, retrained)
    with pytest.raises(BundleError, match="other weights"):
        OnnxNetwork(onnx_file, retrained)


def test_unusable_files_are_named(adapted: Path, onnx_file: Path, tmp_path: Path) -> None:
    weights = adapted / "models" / "model.pt"
    with pytest.raises(BundleError, match=r"none\.onnx: no such file"):
        OnnxNetwork(tmp_path / "none.onnx", weights)
    (tmp_path / "cut.onnx").write_bytes(onnx_file.read_bytes()[:5000])
    with pytest.raises(BundleError, match=r"cut\.onnx: ONNX Runtime cannot load it"):
        OnnxNetwork(tmp_path / "cut.onnx", weights)
    model = onnx.load(str(onnx_file))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "foreign.onnx"))
    with pytest.raises(BundleError, match=r"foreign\.onnx: does not say which weights"):
        OnnxNetwork(tmp_path / "foreign.onnx", weights)


def test_a_file_that_differs_is_not_written(adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medfm3d.inference.network_export.TOLERANCE", -1.0)
    with pytest.raises(BundleError, match="nothing was written"):
        export_network(adapted, tmp_path / "network.ts", ExportFormat.TORCHSCRIPT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("adapter", ["box-adapter", "lora", "dora", "adaptformer", "prompt-tuning", "bias"])
@pytest.mark.parametrize("encoder", ["vit_tiny", "swin_tiny"])
def test_networks_of_all_methods_are_traced_for_other_batches(encoder: str, adapter: str) -> None:
    if encoder == "swin_tiny" and adapter == "prompt-tuning":
        pytest.skip("Swin takes no prompt tokens")
    torch.manual_seed(0)
    network = Segmenter(["liver"], encoder=encoder, adapter=adapter, precision="float32").eval()
    image = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        for parameter in network.parameters():  # what starts at zero would hide a path that was lost
            if not parameter.any():
                parameter.normal_(0, 0.02)
        traced = torch.jit.trace(network, image, check_trace=False)
        other = torch.randn(3, 1, 32, 32, 32)
        torch.testing.assert_close(traced(other), network(other), atol=1e-4, rtol=0)
        program = torch.export.export(network, (image,), dynamic_shapes=({0: torch.export.Dim("b", min=1, max=8)},))
        torch.testing.assert_close(program.module()(other), network(other), atol=1e-4, rtol=0)


def test_tensorrt_config_stops_where_there_is_none(adapted: Path) -> None:
    values = {"datalist": [], "device": "cpu"}
    parser = open_workflow(adapted, ["inference", "inference_trt"], values).parser
    assert parser.get_parsed_content("trt_args")["dynamic_batchsize"] == [1, 4, 4]
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: the config would build an engine")
    with pytest.raises(Exception, match=r"evaluat|TensorRT") as caught:
        parser.get_parsed_content("network")
    refusals = [str(cause) for cause in causes(caught.value) if isinstance(cause, BundleError)]
    assert refusals and "a CUDA device" in refusals[0]
    with pytest.raises(BundleError, match="TensorRT needs"):
        compile_by_tensorrt(torch.nn.Identity(), os.devnull, {})
    assert (bundle_template("fewshot_organ_segmentation") / "configs" / "inference_trt.json").is_file()


def test_what_tensorrt_is_given_is_right(adapted: Path, tmp_path: Path) -> None:
    """MONAI's compiler hands the network to `convert_to_onnx` with a dynamic batch; TensorRT itself is not here."""
    network = CaseSegmenter(adapted, {"datalist": [], "device": "cpu", "network_def#precision": "float32"}).network
    image = windows(adapted, 4)
    convert_to_onnx(
        network,
        {"x": image},
        filename=str(tmp_path / "trt.onnx"),
        input_names=["x"],
        output_names=["outputs"],
        dynamic_axes={"x": {0: "batch"}},
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "trt.onnx"), providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {"x": image[:3].numpy()})
    np.testing.assert_allclose(given, logits(adapted, image[:3]).numpy(), atol=1e-3)
