"""Where a training run begins: the weights that ``init`` of a recipe names, and the architecture they belong to."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from detector.crop import CropConfig
from detector.model.classifier import is_classifier, read_classifier_config
from detector.model.config import BUNDLED_MODEL, MODEL_FILE, ProposalConfig, named_folder, read_model_config
from detector.model.load import read_member
from detector.model.teacher import is_teacher, read_teacher_config, read_teacher_weights
from detector.nets.efficientnet_lite import EfficientNetLite, folded_weights
from detector.nets.googlenet import GoogLeNet, torchvision_config
from detector.nets.multibox import MULTIBOX_FILE, read_multibox, read_multibox_facts
from detector.nets.weights import Normalization, load_into, read_published_weights, read_torchvision_weights
from detector.recipes.defaults import Initialization
from detector.training.regions import HEADS
from proposals.errors import UserError
from proposals.multibox import MultiBoxNet


def initial_weights(init: str, class_keys: tuple[str, ...] = ()) -> dict[str, Tensor] | None:
    """The state dict that ``init`` of a recipe names; ``None`` for "random".

    The last layers are left out, but for a model directory whose classes are ``class_keys``.

    Raises:
        UserError: it cannot be had.
    """
    if init == "random":
        return None
    if init == "torchvision" or init.endswith(".pth"):
        state = read_torchvision_weights(None if init == "torchvision" else Path(init))
    else:
        folder = named_folder(init)
        if is_classifier(folder):
            # Its classes may be the same, but the detection net has an output more.
            state = read_member(folder, read_classifier_config(folder).network).net.state_dict()
        else:
            config = read_model_config(folder)
            member = read_member(folder, config.members[0], len(config.class_names))
            state = member.net.state_dict()
            if member.head is not None and member.head.shape.kind == "softmax":
                state["fc.weight"], state["fc.bias"] = member.head.classify.weight.data, member.head.classify.bias.data
            if config.class_keys == class_keys:
                return state
    return {name: tensor for name, tensor in state.items() if not name.startswith(HEADS)}


def start_of(init: str) -> Initialization:
    """The architecture that belongs to the weights of ``init``, and the input and proposals they are used with.

    Raises:
        UserError: there is no such model.
    """
    if init == "torchvision" or init.endswith(".pth"):
        return Initialization(init, torchvision_config(), CropConfig(), Normalization(), ProposalConfig())
    if init not in ("random", "bundled") and is_classifier(Path(init)):
        network = read_classifier_config(Path(init)).network
        return Initialization(init, network.net, network.crop, network.normalization, ProposalConfig())
    model = read_model_config(BUNDLED_MODEL if init in ("random", "bundled") else Path(init))
    member = model.members[0]
    return Initialization(init, member.net, member.crop, member.normalization, model.proposals)


def initialise(net: GoogLeNet, init: str, class_keys: tuple[str, ...] = (), new_layers: tuple[str, ...] = ()) -> None:
    """Load the weights that ``init`` names into ``net``.

    Missing auxiliary heads stay new, and so do ``new_layers`` (names of the net's parts) and the last layers, unless
    ``init`` is a model of these ``class_keys``.

    Raises:
        UserError: they cannot be had or belong to another architecture.
    """
    kept_new = tuple(f"{layer}." for layer in new_layers)
    own = net.state_dict()
    for layer, prefix in zip(new_layers, kept_new, strict=True):
        if not any(n.startswith(prefix) for n in own):
            parts = ", ".join(dict.fromkeys(n.partition(".")[0] for n in own))
            raise UserError(f"new_layers: the net has no {layer!r}; its parts are {parts}")
    state = initial_weights(init, class_keys)
    if state is None:
        return
    state = {n: t for n, t in state.items() if not n.startswith(kept_new)}
    new = [n for n in own if n not in state and not n.startswith((*HEADS, "aux", *kept_new))]
    wrong = [n for n, t in state.items() if not n.startswith("aux") and (n not in own or own[n].shape != t.shape)]
    if new or wrong:
        raise UserError(
            f"init {init}: weights of another architecture ({(new + wrong)[0]!r} differs); set training.net"
        )
    net.load_state_dict({**own, **{n: t for n, t in state.items() if n in own and own[n].shape == t.shape}})


def initialise_teacher(net: EfficientNetLite, init: str, class_keys: tuple[str, ...]) -> None:
    """Load what ``init`` names into ``net``: a teacher directory, or a file of the published weights.

    The last layer stays new, unless ``init`` is a teacher of these ``class_keys``.

    Raises:
        UserError: they cannot be had or belong to another architecture.
    """
    if init == "random":
        return
    path, same = Path(init), False
    if is_teacher(path):
        state, same = read_teacher_weights(path), read_teacher_config(path).class_keys == class_keys
    else:
        state = folded_weights(read_published_weights(path, "expected EfficientNet-Lite0's, see docs/training.md"))
    if not same:
        state |= {name: tensor for name, tensor in net.state_dict().items() if name.startswith(HEADS)}
    load_into(net, state, path)


def initialise_multibox(net: MultiBoxNet, init: str) -> None:
    """Load what ``init`` names into the trunk of ``net``; of a MultiBox folder also the layers of the head that fit.

    A head of other priors stays new, because its outputs mean other boxes.

    Raises:
        UserError: there is no such model, or its trunk has another architecture.
    """
    folder = Path(init)
    if not (folder / MULTIBOX_FILE).is_file() or (folder / MODEL_FILE).is_file():
        assert isinstance(net.trunk, GoogLeNet)
        initialise(net.trunk, init)
        return
    other = read_multibox(folder, read_multibox_facts(folder).multibox)
    own, given = net.state_dict(), other.state_dict()
    wrong = [n for n in own if n.startswith("trunk.") and (n not in given or given[n].shape != own[n].shape)]
    if wrong:
        raise UserError(f"init {init}: weights of another architecture ({wrong[0]!r} differs); set training.trunk")
    same = net.priors.shape == other.priors.shape and all(
        torch.allclose(a.cpu(), b, atol=1e-4) for a, b in ((net.priors, other.priors), (net.deviation, other.deviation))
    )
    fits = {n: t for n, t in given.items() if n in own and own[n].shape == t.shape and (same or n.startswith("trunk."))}
    net.load_state_dict({**own, **fits})
