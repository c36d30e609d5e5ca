"""The composition root of the ``head`` recipe: its stages, each of which goes on where an earlier run stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from detector.crop import CropConfig
from detector.model.proposals import proposed_boxes
from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.region_net import RegionNet
from detector.nets.trunk import Trunk
from detector.nets.weights import Normalization, load_into, read_weights, save_weights, sha256
from detector.recipes.head import HeadRecipe
from detector.recipes.initialization import initial_weights, start_of
from detector.training.loop import Machine, on_device
from detector.training.pool import ImagePool
from detector.training.proposal_choice import Choice
from detector.training.region_table import RegionTable
from detector.training.region_trainer import Progress, RegionTrainer
from detector.training.run_log import LOG_FILE
from detector.training.trunk_tuning import (
    TuningBatches,
    TuningConfig,
    mine_background,
    tuned_net,
)
from proposals.errors import UserError
from proposals.store import image_key, settings_key
from proposals.types import ProposalSource

WEIGHTS, DONE, MINED = "trunk.safetensors", "done.json", "hard-negatives.bin"


class FixedTrunk(NamedTuple):
    """A trunk whose weights will not change any more.

    Attributes:
        net: its architecture. crop, normalization: how its input is made. weights: a file of them, in float16. digest:
            the SHA-256 of that file.
    """

    net: GoogLeNetConfig
    crop: CropConfig
    normalization: Normalization
    weights: Path
    digest: str

    def build(self) -> Trunk:
        """The network, in evaluation mode."""
        net = Trunk(self.net)
        load_into(net, read_weights(self.weights), self.weights)
        return net.eval()


def first_trunk(recipe: HeadRecipe, cache: Path) -> FixedTrunk:
    """The trunk that ``recipe.init`` names, its weights in ``cache``.

    Raises:
        UserError: there is none, it cannot be read, or it is not to be had from random weights.
    """
    start = start_of(recipe.init)
    state = initial_weights(recipe.init)
    if state is None:
        raise UserError("init random: a head stands on a trained trunk; name another, or use --recipe paper")
    config = start.net.model_copy(update={"aux": False})
    own = {name: tensor for name, tensor in state.items() if not name.startswith(("fc.", "aux"))}
    net = Trunk(config)
    load_into(net, own, recipe.init)
    content = hashlib.sha256(config.model_dump_json().encode())
    for name, tensor in sorted(own.items()):
        content.update(name.encode())
        content.update(np.ascontiguousarray(tensor.numpy()).data)
    crop = recipe.crop or start.crop
    return _keep(cache / "trunks" / content.hexdigest()[:16], net.state_dict(), config, crop, start.normalization)


def _keep(
    folder: Path, state: dict[str, Tensor], net: GoogLeNetConfig, crop: CropConfig, normalization: Normalization
) -> FixedTrunk:
    """``state`` in ``folder``; the same weights give the same file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(folder / WEIGHTS, state, half=True)
        digest = sha256(folder / WEIGHTS)
        temporary = folder / (DONE + ".tmp")
        temporary.write_text(json.dumps({"sha256": digest}), encoding="utf-8")
        temporary.replace(folder / DONE)
    except OSError as error:
        raise UserError(f"{folder}: cannot store the trunk ({error.strerror or error}); name another --cache") from None
    return FixedTrunk(net, crop, normalization, folder / WEIGHTS, digest)


def propose_all(
    source: ProposalSource, pool: ImagePool, count: int | None, advance: Callable[[], None]
) -> list[NDArray[np.float32]]:
    """The first ``count`` boxes of each picture, ``(P, 4)``; none for one that is too small to be searched."""
    found = []
    for index in range(len(pool.images)):
        found.append(proposed_boxes(source, pool.images[index], count))
        advance()
    return found


def tuning_folder(
    config: TuningConfig, trunk: FixedTrunk, pool: ImagePool, table: RegionTable, num_classes: int, cache: Path
) -> Path:
    """Where the tuning of ``trunk`` on these very pictures, regions and settings is kept."""
    content = hashlib.sha256()
    for index in range(len(pool.images)):
        content.update(image_key(pool.images[index]).encode())
    for array in (pool.boxes, pool.labels, pool.first, table.boxes, table.first):
        content.update(np.ascontiguousarray(array).data)
    settings: dict[str, Any] = {
        "method": "trunk tuning",
        "version": 4,
        "tuning": config.model_dump(mode="json"),
        "trunk": trunk.digest,
        "crop": trunk.crop.model_dump(mode="json"),
        "normalization": trunk.normalization.model_dump(mode="json"),
        "classes": num_classes,
        "data": content.hexdigest(),
    }
    return cache / "tuned" / settings_key(settings)


def tuned_trunk(
    trunk: FixedTrunk,
    batches: TuningBatches,
    folder: Path,
    machine: Machine,
    report: Callable[[Progress], None],
) -> FixedTrunk:
    """``trunk`` tuned; from ``folder`` if that is done there, and from the checkpoint there if it was begun.

    The tuning has two parts, hard negatives being mined between them, each in a folder of its own.

    Raises:
        UserError: the disk is full, or the loss is not finite any more. Interrupted: a signal; a checkpoint is saved.
    """
    done = _finished(folder)
    if done is not None:
        return trunk._replace(weights=folder / WEIGHTS, digest=done)
    config = batches.config
    first = round(config.first_part * config.steps)
    state = {f"trunk.{name}": tensor for name, tensor in trunk.build().state_dict().items()}
    if first:
        small = batches.changed(config.model_copy(update={"steps": first}), scale=config.first_scale)
        state = _tuned_part(trunk, small, state, folder / "first", machine, report)
        mined = _mined(trunk, batches, state, folder / MINED, machine)
        machine.tell(f"{len(mined):,} hard negatives among {config.mine_regions} regions far from objects an image")
        second = {"steps": max(config.steps - first, 1), "seed": config.seed + 1}
        batches = batches.changed(config.model_copy(update=second), mined=mined)
    state = _tuned_part(
        trunk, batches, state, folder / "second", machine,
        lambda entry: report(entry.model_copy(update={"step": entry.step + first})),
    )  # fmt: skip
    own = {name.removeprefix("trunk."): t for name, t in state.items() if name.startswith("trunk.")}
    _join_logs(folder, first)
    return _keep(folder, own, trunk.net, trunk.crop, trunk.normalization)


def tuning_trainer(
    config: TuningConfig,
    trunk: GoogLeNetConfig,
    state: dict[str, Tensor],
    batches: TuningBatches,
    folder: Path,
    machine: Machine,
    report: Callable[[Progress], None],
    log_every: int = 50,
) -> RegionTrainer[RegionNet]:
    """The trainer of a tuning; ``state``: first weights, of the whole net or of its trunk alone (``trunk.*``)."""

    def start(net: RegionNet) -> None:
        net.load_state_dict({**net.state_dict(), **state})

    return RegionTrainer(
        config, lambda: tuned_net(trunk, batches.num_classes, config), batches, folder,
        machine=machine, report=report, start=start, log_every=log_every, validate_every=config.steps,
    )  # fmt: skip


def _tuned_part(
    trunk: FixedTrunk,
    batches: TuningBatches,
    state: dict[str, Tensor],
    folder: Path,
    machine: Machine,
    report: Callable[[Progress], None],
) -> dict[str, Tensor]:
    """The weights of the whole net after one part of the tuning, begun from ``state``."""
    if _finished(folder) is not None:
        return read_weights(folder / WEIGHTS)
    folder.mkdir(parents=True, exist_ok=True)
    config = batches.config
    tuner = tuning_trainer(config, trunk.net, state, batches, folder, machine, report)
    if tuner.checkpoint_path.exists():
        tuner.resume()
        machine.tell(f"going on from step {tuner.step} of {config.steps}")
    else:
        (folder / LOG_FILE).unlink(missing_ok=True)  # of a run that died before its first checkpoint
    net = tuner.run()
    _keep(folder, net.state_dict(), trunk.net, trunk.crop, trunk.normalization)
    tuner.checkpoint_path.unlink(missing_ok=True)
    return read_weights(folder / WEIGHTS)  # as stored, so that a run that goes on from here is the same


def _mined(
    trunk: FixedTrunk, batches: TuningBatches, state: dict[str, Tensor], path: Path, machine: Machine
) -> NDArray[np.int64]:
    """The rows of hard negatives, kept in ``path``, beside their digest."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data[32:]).digest() == data[:32]:
            return np.frombuffer(data[32:], "<i8").astype(np.int64)
    except FileNotFoundError:
        pass
    net = tuned_net(trunk.net, batches.num_classes, batches.config)
    net.load_state_dict(state)
    mined = mine_background(on_device(net.eval(), machine.device), trunk.normalization, batches, batches.config.seed)
    body = mined.astype("<i8").tobytes()
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(hashlib.sha256(body).digest() + body)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); name another --cache") from None
    return mined


def _join_logs(folder: Path, first: int) -> None:
    """``log.csv`` of both parts, with the steps counted on."""
    lines: list[str] = []
    for part, offset in (("first", 0), ("second", first)):
        path = folder / part / LOG_FILE
        if path.exists():
            head, *rest = path.read_text(encoding="utf-8").splitlines()
            lines = lines or [head]
            for line in rest:
                step, _, others = line.partition(",")
                lines.append(f"{int(step) + offset},{others}")
    (folder / LOG_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _finished(folder: Path) -> str | None:
    """The digest of the weights in ``folder`` if they are there and sound."""
    try:
        digest = str(json.loads((folder / DONE).read_text(encoding="utf-8"))["sha256"])
        return digest if sha256(folder / WEIGHTS) == digest else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def tuning_of(recipe: HeadRecipe) -> TuningConfig | None:
    """The recipe's tuning with the recipe's seed and grid."""
    if recipe.tuning is None:
        return None
    grid = recipe.head.grid or recipe.tuning.grid
    return recipe.tuning.model_copy(update={"seed": recipe.seed, "grid": grid})


def about(choice: Choice) -> str:
    """A choice of proposals as a line."""
    smallest, largest = choice.search.k[0], choice.search.k[-1]
    return (
        f"proposals: {choice.count} an image, superpixels of {smallest:g} and {largest:g} pixels on a copy of "
        f"{choice.side}: they cover {100 * choice.recall:.1f} % of the objects at IoU 0.5 (mean of the classes)"
    )
