"""Runtimes in place of torch for exported networks: ONNX Runtime and OpenVINO, each where it is installed.

``detector export`` writes the graphs; :mod:`detector.model.export` says what they take and give.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor

from detector.detection.cores import Start, when_asked
from detector.detection.member import Member
from detector.detection.precision import detection_dtype
from detector.nets.region_head import RegionOutput, stacked
from detector.nets.weights import WeightsFile
from proposals.boxes import FloatArray
from proposals.errors import UserError

GRAPHS_FILE = "graphs.json"
SUFFIXES = {"onnx": "onnx", "openvino": "xml", "torchscript": "pt"}
Run = Callable[..., Sequence[NDArray[np.float32]]]


def _onnx(path: Path, dtype: torch.dtype) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a busy machine has better to do
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def _openvino(path: Path, dtype: torch.dtype) -> Run:
    import openvino

    precision = "bf16" if dtype == torch.bfloat16 else "f32"
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": precision}
    graph = openvino.Core().compile_model(path, "CPU", settings)
    own = threading.local()  # images may be looked at side by side, and a request does one thing at a time

    def run(*arrays: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        if not hasattr(own, "request"):
            own.request = graph.create_infer_request()
        return list(own.request.infer(list(arrays)).values())

    return run


class GraphFacts(BaseModel):
    """A graph's file, its inputs and outputs by name, and the sizes of their axes; one with a letter may vary."""

    file: str
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]


class MemberFacts(BaseModel):
    """A network's graphs, the digest of the weights in them, and what an ``input`` is made of."""

    weights_sha256: str
    input: dict[str, Any]
    graphs: tuple[GraphFacts, ...]


class GraphsFacts(BaseModel):
    """What ``graphs.json`` says; the fields that ``model.yaml`` has too mean the same there."""

    format: Literal["onnx", "openvino", "torchscript"]
    opset: int
    name: str
    class_names: tuple[str, ...]
    background: bool
    temperature: float
    licence: str
    members: tuple[MemberFacts, ...]


def graph_file(weights: str, part: str, kind: str) -> str:
    """The name of the file of a network's ``part`` ("crops", "maps", "regions"), whose weights are in ``weights``."""
    return f"{Path(weights).stem}.{part}.{SUFFIXES[kind]}"


class Runtime(NamedTuple):
    """A runtime: its ``module``, the ``formats`` of graphs that it reads, the ``dtypes`` that it computes in."""

    module: str
    formats: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    load: Callable[[Path, torch.dtype], Run]


RUNTIMES = {
    "onnx": Runtime("onnxruntime", ("onnx",), (torch.float32,), _onnx),
    "openvino": Runtime("openvino", ("openvino", "onnx"), (torch.float32, torch.bfloat16), _openvino),
}


@dataclass(frozen=True, slots=True, eq=False)
class RuntimeMember(Member):
    """A member whose graphs ``runs`` compute in place of its network."""

    runs: tuple[Run, ...] = ()

    def output(self, x: Tensor, dtype: torch.dtype = torch.float32) -> RegionOutput:
        """See :meth:`Member.output`; the graphs of a member on shared maps take no crops, so torch does."""
        if self.shared is not None:
            return Member.output(self, x, dtype)
        return self._named(self.runs[0](x.contiguous().numpy()))

    def maps(
        self,
        images: Sequence[NDArray[np.uint8]],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        start: Start = when_asked,
        begun: Any = (),
    ) -> Any:
        """Of each image the arrays that the second graph takes, and what boxes are multiplied by."""
        found = []
        for image in images:
            x = self.level_zero([image], device)
            scale = np.array([x.shape[3] / image.shape[1], x.shape[2] / image.shape[0]] * 2)
            found.append((*self.runs[0](x.contiguous().numpy()), scale))
        return found

    def pooled_output(
        self, regions: Sequence[tuple[Any, FloatArray]], dtype: torch.dtype = torch.float32
    ) -> RegionOutput:
        """See :meth:`Member.pooled_output`."""
        found = []
        for (*tables, scale), boxes in regions:
            found.append(self._named(self.runs[1](*tables, (boxes.astype(np.float64) * scale).astype(np.float32))))
        return stacked(found)

    def _named(self, tables: Sequence[NDArray[np.float32]]) -> RegionOutput:
        probs, *others = (torch.from_numpy(table) for table in tables)
        deltas = others.pop(0) if self.has_box_head else None
        return RegionOutput(probs, deltas, others.pop(0) if self.has_overlap_head else None)


def with_runtime(
    name: str,
    folder: Path,
    files: Sequence[WeightsFile],
    members: Sequence[Member],
    device: torch.device,
    precision: str,
) -> tuple[str, Sequence[Member]]:
    """The runtime that ``name`` stands for, and ``members`` of the model folder ``folder`` that use it.

    Args:
        name: "torch"; "onnx" or "openvino"; "auto" for the first that is installed and that the folder has graphs
            for, on a processor. files: the members' weights.

    Raises:
        UserError: no such runtime, or it is not installed, or not for this device or precision; the folder's graphs are
            missing, damaged, of another format or of other weights.
    """
    path = folder / GRAPHS_FILE
    if name not in ("auto", "torch", *RUNTIMES):
        raise UserError(f"runtime {name!r}: choose auto, torch, {', '.join(RUNTIMES)}")
    if name == "torch" or (name == "auto" and (device.type != "cpu" or not path.is_file())):
        return "torch", members
    if not path.is_file():
        raise UserError(f"{folder}: has no graphs for the runtime {name}; detector export makes a copy that has them")
    if device.type != "cpu":
        raise UserError(f"the runtime {name} needs --device cpu")
    if precision == "int8":
        raise UserError(f"the runtime {name} has no precision int8: leave one of them out")
    try:
        facts = GraphsFacts.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise UserError(f"{path}: damaged; export the model again") from None
    dtype = torch.float32 if precision == "auto" else detection_dtype(precision, device)
    fit = [known for known, each in RUNTIMES.items() if facts.format in each.formats and dtype in each.dtypes]
    if name == "auto":
        name = next((known for known in fit if find_spec(RUNTIMES[known].module)), "torch")
        if name == "torch":
            return name, members
    if name not in fit:
        raise UserError(f"{folder}: the runtime {name} does not run graphs of the format {facts.format} in {dtype}")
    runtime = RUNTIMES[name]
    if find_spec(runtime.module) is None:
        raise UserError(f"the runtime {name} is not installed: pip install 'googlenet-detector[{name}]'")
    ready = []
    for member, file, graphs in zip(members, files, facts.members, strict=False):
        if graphs.weights_sha256 != file.sha256:
            raise UserError(f"{path}: not of the weights {file.file}; export the model again")
        parts = ("crops",) if member.shared is None else ("maps", "regions")
        paths = [folder / graph_file(file.file, part, facts.format) for part in parts]
        for missing in (each for each in paths if not each.is_file()):
            raise UserError(f"{missing}: missing; export the model again")
        own = {field.name: getattr(member, field.name) for field in fields(Member)}
        ready.append(RuntimeMember(**own, runs=tuple(runtime.load(each, dtype) for each in paths)))
    return name, ready
