"""Making model directories: from trained networks, or from another model with a part added."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from detector.crop import CropConfig
from detector.detection.localize import LocalizerBoxes
from detector.detection.suppression import RefinementConfig, uncalibrated
from detector.model.config import MODEL_FILE, MemberConfig, ModelConfig, read_detector_config, read_model_config
from detector.nets.localizer import LOCALIZER_FILE, LocalizerFacts, read_localizer_facts
from detector.nets.multibox import MULTIBOX_FILE, MultiBoxFacts, read_multibox_facts
from detector.nets.region_head import RegionHead
from detector.nets.region_net import SharedMaps
from detector.nets.trunks import NetConfig
from detector.nets.weights import Normalization, halved, save_weights, sha256
from detector.strict_yaml import write_settings
from proposals.calibration import Calibration
from proposals.errors import UserError

LOCALIZER_POWER = 2.0  # the experiment's
Told = TypeVar("Told", str, float)


def join_multibox(model: Path, multibox: Path, out: Path) -> ModelConfig:
    """Make ``out`` a copy of the model directory ``model`` that also proposes with the network in ``multibox``.

    ``out`` may be ``multibox`` itself, which then is a model directory as well.

    Raises:
        UserError: one of them is not what it should be, or ``out`` is a model directory already.
    """
    config, facts = read_detector_config(model), read_multibox_facts(multibox)
    begin_copy(out, [model / file for file in config.model_copy(update={"multibox": None}).files])
    if out.resolve() != multibox.resolve():
        begin_copy(out, [multibox / facts.multibox.file, multibox / facts.multibox.priors])
    provenance = {f"multibox {key}": value for key, value in facts.provenance.items()}
    joined = config.model_copy(update={"multibox": facts.multibox, "provenance": {**config.provenance, **provenance}})
    write_model_config(out, joined)
    return joined


def join_localizer(
    model: Path,
    localizer: Path,
    out: Path,
    power: float = LOCALIZER_POWER,
    boxes: LocalizerBoxes | None = None,
) -> ModelConfig:
    """Make ``out`` a copy of the model directory ``model`` with the network in ``localizer``.

    Scores count its overlaps, or the mean of its and the members' if those predict any, to ``power``. They are not
    calibrated any more: what was known of their calibration is left out, and the score threshold is that of the plain
    scores. ``out`` may be ``localizer`` itself, which then is a model directory as well.

    Args:
        boxes: of detections, see ``ModelConfig``; by default "mean" where all members have box regression and "alone"
            elsewhere.

    Raises:
        UserError: one of them is not what it should be, or ``out`` is a model directory already.
    """
    config, facts = read_model_config(model), read_localizer_facts(localizer)
    begin_copy(out, [model / file for file in config.model_copy(update={"localizer": None}).files])
    if out.resolve() != localizer.resolve():
        begin_copy(out, [localizer / facts.localizer.file])
    post = config.postprocess
    thresholds = {
        "overlap_power": power,
        "score_threshold": uncalibrated(post.score_threshold, post.calibration),
        "calibration": Calibration(),
    }
    if boxes is None:
        regress = all(member.head is not None and member.head.grid for member in config.members)
        boxes = "mean" if regress else "alone"
    known = {key: text for key, text in config.provenance.items() if key != "detections calibrated"}
    kept = [name for name in config.scores if not name.startswith("detection_calibration")]
    scores = {name: config.scores[name] for name in kept}
    joined = config.model_copy(
        update={
            "localizer": facts.localizer,
            "localizer_boxes": boxes,
            "refinement": config.refinement or RefinementConfig(rounds=1),
            "postprocess": post.model_copy(update=thresholds),
            "provenance": {**known, **{f"localizer {key}": text for key, text in facts.provenance.items()}},
            "scores": {**scores, **{f"localizer_{name}": value for name, value in facts.scores.items()}},
        }
    )
    write_model_config(out, joined)
    return joined


def take_multibox(model: Path, out: Path) -> MultiBoxFacts:
    """Make ``out`` the folder of the model directory ``model``'s MultiBox: what :func:`join_multibox` joined to it.

    Its scores are not known any more, for a model directory does not hold them.

    Raises:
        UserError: ``model`` is no model directory or has no MultiBox, or a file cannot be copied.
    """
    config = read_model_config(model)
    if config.multibox is None:
        raise UserError(f"{model}: has no MultiBox that could be taken")
    begin_copy(out, [model / config.multibox.file, model / config.multibox.priors])
    facts = MultiBoxFacts(
        name=config.name,
        multibox=config.multibox,
        licence=config.licence,
        provenance=_part(config.provenance, "multibox "),
    )
    write_settings(out / MULTIBOX_FILE, facts)
    return facts


def take_localizer(model: Path, out: Path) -> LocalizerFacts:
    """Make ``out`` the folder of the model directory ``model``'s localizer: what :func:`join_localizer` joined to it.

    Raises:
        UserError: ``model`` is no model directory or has no localizer, or a file cannot be copied.
    """
    config = read_model_config(model)
    if config.localizer is None:
        raise UserError(f"{model}: has no localizer that could be taken")
    begin_copy(out, [model / config.localizer.file])
    facts = LocalizerFacts(
        name=config.name,
        localizer=config.localizer,
        licence=config.licence,
        provenance=_part(config.provenance, "localizer "),
        scores=_part(config.scores, "localizer_"),
    )
    write_settings(out / LOCALIZER_FILE, facts)
    return facts


def _part(told: Mapping[str, Told], prefix: str) -> dict[str, Told]:
    """What ``told`` says under names with ``prefix``, by the rest of each name."""
    return {name.removeprefix(prefix): value for name, value in told.items() if name.startswith(prefix)}


def begin_copy(out: Path, files: Sequence[Path]) -> None:
    """Copy ``files`` into ``out``, which is not a model directory yet; :func:`write_model_config` makes it one.

    Raises:
        UserError: ``out`` is one already, or a file cannot be copied.
    """
    if (out / MODEL_FILE).exists():
        raise UserError(f"{out}: is a model directory already; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    for path in files:
        try:
            shutil.copyfile(path, out / path.name)
        except OSError as error:
            raise UserError(f"{path}: cannot be copied to {out} ({error.strerror or error})") from None


def write_model_config(folder: Path, config: ModelConfig) -> None:
    """Write ``model.yaml``, which makes ``folder`` a model directory: after everything that it names."""
    write_settings(folder / MODEL_FILE, config)


def save_model(
    folder: Path,
    nets: Sequence[tuple[NetConfig, Mapping[str, Tensor], CropConfig, Normalization]],
    *,
    heads: Sequence[RegionHead] = (),
    shared: SharedMaps | None = None,
    half: bool = True,
    **facts: Any,
) -> ModelConfig:
    """Make ``folder`` a model directory; it must not be one yet.

    Args:
        nets: architecture, state dict and input of each member; of those with a head, of the trunk alone.
        heads: one for each member, stored in float32, or none. shared: how regions are pooled for them; ``None`` crops
            them. half: store networks in float16. facts: the other fields of :class:`ModelConfig`.
    """
    if (folder / MODEL_FILE).exists():
        raise UserError(f"{folder}: is a model directory already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    members = []
    for index, (net, state, crop, normalization) in enumerate(nets):
        path = folder / f"member-{index}.safetensors"
        head = heads[index] if heads else None
        # The auxiliary heads serve training only.
        plain = net.model_copy(update={"aux": False}) if net.kind == "googlenet" else net
        kept = {name: tensor for name, tensor in state.items() if not name.startswith("aux")}
        kept = halved(kept) if half else kept
        if head is not None:
            kept = {f"trunk.{name}": t for name, t in kept.items()} | head_tensors(head.state_dict())
        save_weights(path, kept)
        members.append(
            MemberConfig(
                file=path.name,
                sha256=sha256(path),
                net=plain,
                crop=crop,
                normalization=normalization,
                head=None if head is None else head.shape,
                shared=shared,
            )
        )
    config = ModelConfig(members=tuple(members), **facts)
    write_model_config(folder, config)
    return config


def head_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A head's state dict by its names in the file of a network."""
    return {f"head.{name}": tensor for name, tensor in state.items()}
