"""Networks as files that run without this toolkit: ONNX, OpenVINO, TorchScript.

A network that looks at crops is one graph; one on shared maps is two, so that the maps of an image are computed once:

    crops    crops (N, 3, S, S)                                   -> probs (N, K + 1), deltas (N, K, 4), overlap (N,)
    maps     image (1, 3, H, W)                                   -> maps (L, C, h, w), scales (L, 4)
    regions  maps (L, C, h, w), scales (L, 4), boxes (N, 4)       -> probs, deltas, overlap

All are float32; images and crops are normalised, boxes lie inside the image, in its pixels. ``deltas`` and ``overlap``
are there where the network has them. ``graphs.json`` names every file with its inputs and outputs, and what an input is
made of.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.detection.member import Member
from detector.detection.runtimes import GRAPHS_FILE, GraphFacts, GraphsFacts, MemberFacts, graph_file
from detector.model.config import ModelConfig
from detector.model.load import load_ensemble
from detector.model.save import begin_copy, write_model_config
from detector.nets.region_net import LEAST_SIDE, cell_grid
from detector.shown import json_text
from proposals.errors import UserError

OPSET = 18  # RoiAlign has half-pixel coordinates from 16 on
ExportFormat = Literal["onnx", "openvino", "torchscript"]
# format -> the modules that writing it takes
FORMATS = {"onnx": ("onnx", "onnxscript"), "openvino": ("onnx", "onnxscript", "openvino"), "torchscript": ()}
Axes = dict[str, tuple[int | str, ...]]


class Graph(NamedTuple):
    """A network, or a part of one, as it is written.

    Attributes:
        name: what the file's name says of it. module: what runs. example: an input of each.
        inputs, outputs: their names, and the sizes of their axes; one with a letter may vary.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: Axes
    outputs: Axes


class CropsGraph(nn.Module):
    """Normalised crops ``(N, 3, S, S)`` to probabilities, and deltas and overlaps if the member has them."""

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.net, self.head = member.net, member.head

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        if self.head is None:
            return (torch.softmax(self.net(crops), 1),)
        return tuple(table for table in self.head(self.net.trunk(crops)) if table is not None)


class MapsGraph(nn.Module):
    """A normalised image ``(1, 3, H, W)`` to the maps of its L levels and where its pixels lie in them.

    Smaller maps repeat their last row and column up to the size of level 0's: ``(L, C, h, w)``. ``scales`` ``(L, 4)``
    turns ``x1 y1 x2 y2`` in pixels of the image into cells of a level.
    """

    def __init__(self, member: Member) -> None:
        super().__init__()
        assert member.shared is not None
        self.net, self.levels, self.stride = member.net, member.shared.levels, cell_grid(member.net.config).stride

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        levels = [image]
        while len(levels) < self.levels:
            height, width = levels[-1].shape[2:]
            levels.append(halving(height) @ levels[-1] @ halving(width).T)
        sizes = torch.stack([torch.scalar_tensor(side) for x in levels for side in (x.shape[3], x.shape[2])])
        scales = (sizes.view(-1, 2) / sizes[:2]).repeat(1, 2) / self.stride
        maps = [self.net.map_4e(x) for x in levels]
        height, width = maps[0].shape[2:]
        padded = [F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]), mode="replicate") for x in maps[1:]]
        return torch.cat([maps[0], *padded]), scales


def halving(size: int) -> Tensor:
    """Average pooling to half of ``size`` places, rounded up, as a matrix: ``((size + 1) // 2, size)``.

    As ``adaptive_avg_pool2d`` has it, for any size when the graph runs.
    """
    half = (size + 1) // 2
    number, place = torch.arange(half)[:, None], torch.arange(size)
    start, end = number * size // half, ((number + 1) * size + half - 1) // half
    return ((place >= start) & (place < end)).float() / (end - start)


class RegionsGraph(nn.Module):
    """What :class:`MapsGraph` gives, and boxes ``(N, 4)``, to probabilities, deltas and overlaps."""

    def __init__(self, member: Member) -> None:
        from torchvision.ops import roi_align  # here: PyTorch's exporter must know it before the first graph is written

        super().__init__()
        self.roi_align = roi_align
        assert member.shared is not None
        assert member.head is not None
        self.net, self.head, self.config = member.net, member.head, member.shared
        self.grid = cell_grid(member.net.config)

    def forward(self, maps: Tensor, scales: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        sides = (boxes[:, 2:].double() - boxes[:, :2].double()).clamp(min=1e-6)
        area = sides[:, 0] * sides[:, 1]
        level = torch.zeros_like(area)
        for number in range(1, self.config.levels):  # from half an octave below the level's own size on
            level = level + (area >= self.config.region_side**2 * 2 ** (2 * number - 1))
        placed = boxes * scales[level.long()] + (0.5 - self.grid.first / self.grid.stride)
        rois = torch.cat([level.float()[:, None], placed], 1)
        cells = self.roi_align(maps, rois, self.config.resolution, 1.0, self.config.samples, aligned=True)
        return tuple(table for table in self.head(self.net.after_4e(cells)) if table is not None)


def graphs_of(member: Member) -> list[Graph]:
    """The graphs of a member that is in evaluation mode on the CPU."""
    outputs: Axes = {"probs": ("N", member.num_outputs)}
    if member.has_box_head:
        outputs["deltas"] = ("N", member.num_outputs - 1, 4)
    if member.has_overlap_head:
        outputs["overlap"] = ("N",)
    if member.shared is None:
        side = member.crop.size
        crops = CropsGraph(member)
        return [Graph("crops", crops, (torch.zeros(3, 3, side, side),), {"crops": ("N", 3, side, side)}, outputs)]
    maps = MapsGraph(member)
    least = LEAST_SIDE * 2**member.shared.levels
    image = torch.zeros(1, 3, 3 * least + 5, 4 * least + 7)
    with torch.no_grad():
        made = maps(image)
    between: Axes = {"maps": (*made[0].shape[:2], "h", "w"), "scales": tuple(made[1].shape)}
    boxes = torch.tensor([[0.0, 0, 20, 30], [5, 4, 60, 40], [0, 0, least, least]])
    return [
        Graph("maps", maps, (image,), {"image": (1, 3, "H", "W")}, between),
        Graph("regions", RegionsGraph(member), (*made, boxes), {**between, "boxes": ("N", 4)}, outputs),
    ]


def export_model(model: Path, config: ModelConfig, kind: ExportFormat, out: Path) -> list[Path]:
    """Make ``out`` a copy of the model folder ``model``, its networks also as graphs of a kind of :data:`FORMATS`.

    Returns:
        The graphs' files.

    Raises:
        UserError: a package is missing that writing them takes, or ``out`` is a model folder already.
    """
    if not all(find_spec(name) for name in FORMATS[kind]):
        raise UserError(f"{kind} needs packages that are not installed: pip install 'googlenet-detector[{kind}]'")
    ensemble = load_ensemble(model, config, torch.device("cpu"), precision="float32")
    begin_copy(out, [model / file for file in config.files])
    members, files = [], []
    for weights, member in zip(config.members, ensemble.members, strict=True):
        graphs = []
        for graph in graphs_of(member):
            files.append(out / graph_file(weights.file, graph.name, kind))
            _WRITERS[kind](graph, files[-1])
            graphs.append(GraphFacts(file=files[-1].name, inputs=graph.inputs, outputs=graph.outputs))
        members.append(MemberFacts(weights_sha256=weights.sha256, input=_input_facts(member), graphs=tuple(graphs)))
    own = config.model_dump(include=set(GraphsFacts.model_fields) - {"format", "members"})
    facts = GraphsFacts(format=kind, opset=OPSET, members=tuple(members), **own)
    (out / GRAPHS_FILE).write_text(json_text(facts.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    write_model_config(out, config)
    return files


def _input_facts(member: Member) -> dict[str, Any]:
    """What a network's input is made of."""
    common = {"colours": "RGB", **member.normalization.model_dump()}
    if member.shared is None:
        return {**common, "crop": member.crop.model_dump()}
    least = LEAST_SIDE * 2 ** (member.shared.levels - 1)
    return {**common, "longer_side": member.shared.image_side, "least_side": least}


def _write_onnx(graph: Graph, path: Path) -> None:
    axes = [{i: axis for i, axis in enumerate(shape) if isinstance(axis, str)} for shape in graph.inputs.values()]
    torch.onnx.export(
        graph.module.eval().requires_grad_(False),
        graph.example,
        path,
        dynamo=True,
        verbose=False,
        external_data=False,
        opset_version=OPSET,
        dynamic_shapes=tuple(axes),
        input_names=list(graph.inputs),
        output_names=list(graph.outputs),
    )


def _write_openvino(graph: Graph, path: Path) -> None:
    import openvino

    onnx = path.with_suffix(".onnx")
    _write_onnx(graph, onnx)
    openvino.save_model(openvino.Core().read_model(onnx), path, compress_to_fp16=False)
    onnx.unlink()


def _write_torchscript(graph: Graph, path: Path) -> None:
    with warnings.catch_warnings():  # PyTorch advises against TorchScript; C++ programs have nothing else to load
        warnings.simplefilter("ignore")
        torch.jit.trace(graph.module.eval().requires_grad_(False), graph.example, check_trace=False).save(path)  # type: ignore[no-untyped-call]


_WRITERS = {"onnx": _write_onnx, "openvino": _write_openvino, "torchscript": _write_torchscript}
