"""A classifier directory: a network that names whole pictures, which detection networks may begin from.

It holds ``classifier.yaml`` and one safetensors file. ``--init`` of the training verbs takes it, and so does
``detector evaluate --metric images``, with 1, 10 or 144 crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from detector.crop import CropConfig
from detector.detection.ensemble import Ensemble, RegionClassifier
from detector.model.config import MemberConfig
from detector.model.load import choose_device, read_member
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.weights import Normalization, save_weights, sha256
from detector.strict_yaml import read_settings, write_settings
from proposals.errors import UserError

CLASSIFIER_FILE = "classifier.yaml"
WEIGHTS_FILE = "classifier.safetensors"


class ClassifierConfig(BaseModel):
    """What ``classifier.yaml`` says; the fields are those of :class:`detector.model.config.ModelConfig`.

    Attributes:
        network: its outputs are the K classes; there is no background.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    description: str = ""
    class_names: tuple[str, ...] = Field(min_length=1)
    class_keys: tuple[str, ...] = Field(min_length=1)
    network: MemberConfig
    licence: str
    provenance: dict[str, str] = {}
    scores: dict[str, float] = {}


@dataclass(frozen=True, slots=True, eq=False)
class ImageClassifier:
    """Names whole pictures: probabilities ``(N, K)`` of ``class_names``, without background."""

    classifier: RegionClassifier
    class_names: tuple[str, ...]


def is_classifier(folder: Path) -> bool:
    """Whether ``folder`` is a classifier directory."""
    return (folder / CLASSIFIER_FILE).is_file()


def read_classifier_config(folder: Path) -> ClassifierConfig:
    """The checked ``classifier.yaml`` of a classifier directory.

    Raises:
        UserError: there is none, or a fault in it.
    """
    config = read_settings(ClassifierConfig, folder / CLASSIFIER_FILE)
    names, keys, outputs = len(config.class_names), len(config.class_keys), config.network.net.num_outputs
    if not names == keys == outputs:
        raise UserError(f"{folder / CLASSIFIER_FILE}: {names} class_names, {keys} class_keys, {outputs} outputs")
    return config


def load_classifier(folder: Path, device: str = "auto", precision: str = "auto") -> ImageClassifier:
    """The classifier of a directory, ready to predict; see :func:`detector.model.load.load_model` for ``precision``.

    Raises:
        UserError: anything wrong with the directory, in one line.
    """
    config = read_classifier_config(folder)
    ensemble = Ensemble([read_member(folder, config.network)], choose_device(device), precision=precision)
    return ImageClassifier(ensemble, config.class_names)


def save_classifier(
    folder: Path,
    net: GoogLeNetConfig,
    state: dict[str, Tensor],
    crop: CropConfig,
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
) -> ClassifierConfig:
    """Make ``folder`` a classifier directory; it must not be one yet. The auxiliary heads are left out."""
    if is_classifier(folder):
        raise UserError(f"{folder}: is a classifier directory already; choose another folder")
    plain = net.model_copy(update={"aux": False})
    with torch.no_grad():
        save_weights(folder / WEIGHTS_FILE, {n: t for n, t in state.items() if not n.startswith("aux")}, half=half)
    network = MemberConfig(
        file=WEIGHTS_FILE, sha256=sha256(folder / WEIGHTS_FILE), net=plain, crop=crop, normalization=normalization
    )
    config = ClassifierConfig(
        name=name,
        description=description,
        class_names=class_names,
        class_keys=class_keys,
        network=network,
        licence=licence,
        provenance=provenance,
        scores=scores,
    )
    write_settings(folder / CLASSIFIER_FILE, config)
    return config
