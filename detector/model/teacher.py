"""A teacher directory: an EfficientNet-Lite0 that names the crops of a region classifier's classes.

It holds ``teacher.yaml`` and one safetensors file; ``detector train-teacher`` makes it, and ``teacher`` of a training
recipe names it. It is for training alone: detection has GoogLeNets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from detector.detection.precision import detection_dtype
from detector.model.config import WeightsFile
from detector.model.load import choose_device
from detector.nets.efficientnet_lite import FEATURES, EfficientNetLite, EfficientNetLiteConfig
from detector.nets.weights import Normalization, load_into, read_weights, save_weights, sha256
from detector.strict_yaml import read_settings, write_settings
from proposals.errors import UserError

TEACHER_FILE = "teacher.yaml"
WEIGHTS_FILE = "teacher.safetensors"


class TeacherNetwork(WeightsFile):
    """The file, the architecture, and how crops are normalised for it."""

    net: EfficientNetLiteConfig
    normalization: Normalization


class TeacherConfig(BaseModel):
    """What ``teacher.yaml`` says; the fields are those of :class:`detector.model.config.ModelConfig`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    description: str = ""
    class_names: tuple[str, ...] = Field(min_length=1)
    class_keys: tuple[str, ...] = Field(min_length=1)
    network: TeacherNetwork
    licence: str
    provenance: dict[str, str] = {}
    scores: dict[str, float] = {}


class EfficientNetTeacher:
    """Names crops; see :class:`detector.training.teaching.Teacher`.

    Args:
        net: put in evaluation mode, on ``device``. precision: see :func:`detector.detection.precision.detection_dtype`.
    """

    def __init__(
        self, net: EfficientNetLite, normalization: Normalization, device: torch.device, precision: str = "auto"
    ) -> None:
        self.dtype, self.device, self.normalization = detection_dtype(precision, device), device, normalization
        # Whole in the short format: under autocast the weights would be converted anew for each batch.
        self.net = net.eval().to(device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    num_features = FEATURES

    def name_crops(self, crops: Tensor) -> Tensor:
        """See the protocol; probabilities are computed in float32."""
        return self.name_and_describe(crops)[0]

    @torch.inference_mode()
    def name_and_describe(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`detector.training.hints.HintingTeacher`."""
        x = self.normalization(crops.to(self.device)).contiguous(memory_format=torch.channels_last)
        features = self.net.features(x)
        answers: Tensor = self.net.fc(features)
        return answers.float().softmax(1).cpu(), features.float().cpu()


def is_teacher(folder: Path) -> bool:
    """Whether ``folder`` is a teacher directory."""
    return (folder / TEACHER_FILE).is_file()


def read_teacher_config(folder: Path) -> TeacherConfig:
    """The checked ``teacher.yaml`` of a teacher directory.

    Raises:
        UserError: there is none, or a fault in it.
    """
    config = read_settings(TeacherConfig, folder / TEACHER_FILE)
    names, keys, outputs = len(config.class_names), len(config.class_keys), config.network.net.num_outputs
    if not names == keys == outputs - 1:
        raise UserError(f"{folder / TEACHER_FILE}: {names} class_names, {keys} class_keys, {outputs} outputs")
    return config


def read_teacher_weights(folder: Path) -> dict[str, Tensor]:
    """The state dict of a teacher directory's network, float32.

    Raises:
        UserError: it cannot be read, or is not the file that ``teacher.yaml`` names.
    """
    network = read_teacher_config(folder).network
    path = folder / network.file
    state = read_weights(path)
    if sha256(path) != network.sha256:
        raise UserError(f"{path}: is not the file that {TEACHER_FILE} names (its SHA-256 differs)")
    return state


def load_teacher(folder: Path, device: str | torch.device = "auto", precision: str = "auto") -> EfficientNetTeacher:
    """The teacher of a directory.

    Raises:
        UserError: anything wrong with the directory, in one line.
    """
    network = read_teacher_config(folder).network
    net = EfficientNetLite(network.net)
    load_into(net, read_teacher_weights(folder), folder / network.file)
    target = choose_device(device) if isinstance(device, str) else device
    return EfficientNetTeacher(net, network.normalization, target, precision)


def save_teacher(
    folder: Path,
    net: EfficientNetLite,
    normalization: Normalization,
    *,
    half: bool,
    name: str,
    description: str,
    class_names: tuple[str, ...],
    class_keys: tuple[str, ...],
    licence: str,
    provenance: dict[str, str],
    scores: dict[str, float],
) -> TeacherConfig:
    """Make ``folder`` a teacher directory; it must not be one yet."""
    if is_teacher(folder):
        raise UserError(f"{folder}: is a teacher directory already; choose another folder")
    save_weights(folder / WEIGHTS_FILE, net.state_dict(), half=half)
    network = TeacherNetwork(
        file=WEIGHTS_FILE, sha256=sha256(folder / WEIGHTS_FILE), net=net.config, normalization=normalization
    )
    config = TeacherConfig(
        name=name,
        description=description,
        class_names=class_names,
        class_keys=class_keys,
        network=network,
        licence=licence,
        provenance=provenance,
        scores=scores,
    )
    write_settings(folder / TEACHER_FILE, config)
    return config
