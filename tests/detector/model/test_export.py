"""Exported networks, run without this toolkit, say what the networks say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from detector.crop import CropConfig, crop_regions
from detector.detection.ensemble import Ensemble, ImageView
from detector.detection.runtimes import GRAPHS_FILE
from detector.model.config import read_model_config
from detector.model.export import export_model, halving
from detector.model.load import load_ensemble
from detector.model.save import save_model
from detector.nets.googlenet import GoogLeNetConfig, Trunk
from detector.nets.region_head import HeadShape, RegionHead
from detector.nets.region_net import SharedMaps, resize_image
from detector.nets.weights import Normalization
from proposals.errors import UserError

CPU = torch.device("cpu")
NET = GoogLeNetConfig(num_outputs=4, norm="batch", width=0.1, stem="stride4")
SHAPE = HeadShape(kind="softmax", grid=3, shared=True, overlap=3)
SHARED = SharedMaps(image_side=120, levels=3, region_side=24)
CROP = CropConfig(size=32, context_pad=2)
SIZES = [(60, 80), (97, 41), (33, 120)]  # one is wide, one is high, sides odd and even, one enlarged


def write_model(folder: Path, shared: SharedMaps | None) -> Path:
    """A network whose outputs differ from region to region."""
    torch.manual_seed(0)
    trunk = Trunk(NET)
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics are this batch's, so that activations keep their size
    trunk(torch.randn(8, 3, 32, 32))
    head = RegionHead(SHAPE, 3, trunk.num_features)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            parameter.normal_(std=0.05 if name.startswith("classify") else 0.003)
    words = ("cat", "dog", "cow")
    facts = {"name": "test", "class_names": words, "class_keys": words, "licence": "MIT"}
    save_model(folder, [(NET, trunk.state_dict(), CROP, Normalization())], heads=[head], shared=shared, **facts)
    return folder


def picture(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Blots of colour."""
    blots = np.random.default_rng(size[0]).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return np.array(Image.fromarray(blots).resize(size[::-1]))


def boxes_in(size: tuple[int, int], count: int = 40) -> NDArray[np.float32]:
    """Boxes of every size up to the whole image."""
    ends = np.random.default_rng(1).uniform(0, 1, (count, 2, 2))
    shares = np.concatenate([ends.min(axis=1), ends.max(axis=1)], axis=1)
    return (np.concatenate([[[0, 0, 1, 1]], shares]) * ([size[1], size[0]] * 2)).astype(np.float32)


@pytest.fixture(scope="module", params=["shared", "crops"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with ONNX graphs, written by the command in a process of its own: nothing is imported before."""
    pytest.importorskip("onnxscript", reason="pip install googlenet-detector[onnx]")
    folder = tmp_path_factory.mktemp(request.param)
    model = write_model(folder / "model", SHARED if request.param == "shared" else None)
    words = [sys.executable, "-m", "detector", "export", str(model), "--format", "onnx", "--out", str(folder / "onnx")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "onnx"


Run = Callable[..., list[NDArray[np.float32]]]


def normalized(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    mean, std = (np.array(values, np.float32) for values in (Normalization().mean, Normalization().std))
    return np.ascontiguousarray(((images - mean) / std).transpose(0, 3, 1, 2))


def predict(folder: Path, run_of: Callable[[Path], Run], size: tuple[int, int]) -> list[NDArray[np.float32]]:
    """The outputs of the graphs in ``folder`` for an image of ``size``, by what ``graphs.json`` says alone."""
    (facts,) = json.loads((folder / GRAPHS_FILE).read_text())["members"]
    image, boxes = picture(size), boxes_in(size)
    runs = [run_of(folder / graph["file"]) for graph in facts["graphs"]]
    if len(runs) == 1:
        crop = CropConfig(**facts["input"]["crop"])
        return runs[0](normalized(crop_regions(image, boxes, crop, Normalization().fill)))
    longer, least = facts["input"]["longer_side"], facts["input"]["least_side"]
    height, width = (max(least, round(side * longer / max(size))) for side in size)
    maps = runs[0](normalized(resize_image(image, (height, width))[None]))
    return runs[1](*maps, boxes * np.array([width / size[1], height / size[0]] * 2, np.float32))


def expected(folder: Path, size: tuple[int, int]) -> list[NDArray[np.float32]]:
    (output,) = load_ensemble(folder, read_model_config(folder), CPU).predict_members(picture(size), boxes_in(size))
    assert output.deltas is not None
    assert output.overlap is not None
    assert output.probs.std(0).max() > 0.02
    return [table.numpy() for table in output]  # type: ignore[union-attr]


def assert_equal(found: list[NDArray[np.float32]], wanted: list[NDArray[np.float32]]) -> None:
    assert len(found) == len(wanted)
    for table, truth in zip(found, wanted, strict=True):
        np.testing.assert_allclose(table, truth, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_onnx_runtime_gives_the_same_numbers(exported: Path, size: tuple[int, int]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install googlenet-detector[onnx]")

    def run_of(path: Path) -> Run:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [node.name for node in session.get_inputs()]
        return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))

    assert_equal(predict(exported, run_of, size), expected(exported, size))


@pytest.mark.slow
def test_the_files_say_what_is_in_them(exported: Path) -> None:
    onnx = pytest.importorskip("onnx")
    about = json.loads((exported / GRAPHS_FILE).read_text())
    assert about["class_names"] == ["cat", "dog", "cow"]
    for graph in about["members"][0]["graphs"]:
        model = onnx.load(exported / graph["file"])
        onnx.checker.check_model(model, full_check=True)
        assert [entry.version for entry in model.opset_import if not entry.domain] == [about["opset"]]
        for kind, nodes in (("inputs", model.graph.input), ("outputs", model.graph.output)):
            shapes = {
                node.name: [d.dim_param or d.dim_value for d in node.type.tensor_type.shape.dim] for node in nodes
            }
            assert list(shapes) == list(graph[kind])
            for name, shape in graph[kind].items():
                fixed = [isinstance(side, int) for side in shape]
                assert [isinstance(side, int) for side in shapes[name]] == fixed
                assert all(a == b for a, b, same in zip(shapes[name], shape, fixed, strict=True) if same)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "openvino"])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_runtime_in_place_of_torch(exported: Path, name: str, mirror: bool) -> None:
    pytest.importorskip("onnxruntime" if name == "onnx" else name, reason=f"pip install googlenet-detector[{name}]")
    config, size = read_model_config(exported), SIZES[0]
    ensembles: list[Ensemble] = [load_ensemble(exported, config, CPU, runtime=runtime) for runtime in ("torch", name)]
    assert [ensemble.runtime for ensemble in ensembles] == ["torch", name]
    wanted, found = (each.predict(ImageView(picture(size)), boxes_in(size), mirror=mirror) for each in ensembles)
    assert found.boxes is not None
    for table, truth in zip(found, wanted, strict=True):
        np.testing.assert_allclose(table, truth, atol=1e-3 if table is found.boxes else 1e-4)  # boxes are in pixels
    crops = torch.rand(3, 3, CROP.size, CROP.size) * 255
    torch.testing.assert_close(ensembles[1].name_crops(crops), ensembles[0].name_crops(crops), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")  # PyTorch advises against TorchScript
@pytest.mark.parametrize("shared", [SHARED, None], ids=["shared", "crops"])
def test_torchscript_gives_the_same_numbers(tmp_path: Path, shared: SharedMaps | None) -> None:
    model = write_model(tmp_path / "model", shared)
    export_model(model, read_model_config(model), "torchscript", tmp_path / "out")

    def run_of(path: Path) -> Run:
        graph = torch.jit.load(path)
        return lambda *arrays: [table.numpy() for table in graph(*map(torch.from_numpy, arrays))]

    for size in SIZES:
        assert_equal(predict(tmp_path / "out", run_of, size), expected(model, size))


@pytest.mark.slow
def test_openvino_gives_the_same_numbers(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="pip install googlenet-detector[openvino]")
    model = write_model(tmp_path / "model", None)
    export_model(model, read_model_config(model), "openvino", tmp_path / "out")

    def run_of(path: Path) -> Run:
        graph = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda *arrays: list(graph(list(arrays)).values())

    assert_equal(predict(tmp_path / "out", run_of, SIZES[0]), expected(model, SIZES[0]))


@pytest.mark.parametrize("size", [*range(1, 9), 33, 100])
def test_halving_is_adaptive_pooling(size: int) -> None:
    x = torch.rand(1, 2, size, 5)
    wanted = torch.nn.functional.adaptive_avg_pool2d(x, ((size + 1) // 2, 5))
    torch.testing.assert_close(halving(size) @ x, wanted)


def fault_of(folder: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as raised:
        load_ensemble(folder, read_model_config(folder), CPU, **settings)
    return str(raised.value).removeprefix(f"{folder}")


@pytest.mark.slow
def test_faults_of_runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "model", SHARED)
    assert fault_of(model, runtime="onyx") == "runtime 'onyx': choose auto, torch, onnx, openvino"
    assert (
        fault_of(model, runtime="onnx")
        == ": has no graphs for the runtime onnx; detector export makes a copy that has them"
    )
    assert load_ensemble(model, read_model_config(model), CPU, runtime="auto").runtime == "torch"
    out = tmp_path / "out"
    export_model(model, read_model_config(model), "torchscript", out)
    assert load_ensemble(out, read_model_config(out), CPU, runtime="auto").runtime == "torch"
    assert "does not run graphs of the format torchscript" in fault_of(out, runtime="openvino")
    about = json.loads((out / GRAPHS_FILE).read_text())
    (out / GRAPHS_FILE).write_text(json.dumps({**about, "format": "onnx"}))
    assert "in torch.bfloat16" in fault_of(out, runtime="onnx", precision="bfloat16")
    monkeypatch.setattr("detector.detection.runtimes.find_spec", lambda name: None)
    assert fault_of(out, runtime="onnx") == "the runtime onnx is not installed: pip install 'googlenet-detector[onnx]'"
    assert load_ensemble(out, read_model_config(out), CPU, runtime="auto").runtime == "torch"
    monkeypatch.setattr("detector.detection.runtimes.find_spec", lambda name: True)
    assert fault_of(out, runtime="onnx") == "/member-0.maps.onnx: missing; export the model again"
    about["members"][0]["weights_sha256"] = "0" * 64
    (out / GRAPHS_FILE).write_text(json.dumps({**about, "format": "onnx"}))
    assert "not of the weights member-0.safetensors" in fault_of(out, runtime="auto")
    (out / GRAPHS_FILE).write_text("{")
    assert fault_of(out, runtime="onnx") == f"/{GRAPHS_FILE}: damaged; export the model again"


def test_export_without_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "model", None)
    monkeypatch.setattr("detector.model.export.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnx needs packages that are not installed: pip install .*\[onnx\]"):
        export_model(model, read_model_config(model), "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()
