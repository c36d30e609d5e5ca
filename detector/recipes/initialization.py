"""What a recipe names: the weights that a training begins with, the architecture they belong to, and the teacher."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from detector.crop import CropConfig
from detector.detection.ensemble import Ensemble
from detector.model.config import ProposalConfig, named_folder, read_detector_config, read_model_config
from detector.model.load import load_ensemble, read_member, read_multibox
from detector.nets.googlenet import GoogLeNet, paper_config, torchvision_config
from detector.nets.region_head import RegionHead
from detector.nets.region_net import RegionNet, SharedMaps
from detector.nets.weights import Normalization, read_torchvision_weights
from detector.recipes.defaults import Initialization
from detector.recipes.region import OneRecipe, SharedRecipe
from detector.training.region_loss import DELTA_SCALE
from detector.training.region_trainer import HEADS
from proposals.errors import UserError

WIDE_MAPS = SharedMaps(image_side=512, levels=2, region_side=128.0)  # for a trunk whose cells are 16 pixels wide


def initial_weights(
    init: str, class_keys: tuple[str, ...] = (), *, background: bool = True
) -> dict[str, Tensor] | None:
    """The state dict that ``init`` of a recipe names; ``None`` for "random".

    The last layers are left out, but for a model directory whose classes are ``class_keys``, with ``background`` alike.

    Raises:
        UserError: it cannot be had.
    """
    if init == "random":
        return None
    if init.endswith(".caffemodel"):
        from detector.nets.caffe import read_caffe_weights

        state = read_caffe_weights(Path(init))
    elif is_published(init):
        state = read_torchvision_weights(None if init == "torchvision" else Path(init))
    else:
        folder = named_folder(init)
        config = read_model_config(folder)
        member = read_member(folder, config.members[0], len(config.class_names))
        state = member.net.state_dict()
        if member.head is not None and member.head.shape.kind == "softmax":
            state["fc.weight"], state["fc.bias"] = member.head.classify.weight.data, member.head.classify.bias.data
        if (config.class_keys, config.background) == (class_keys, background):
            return state
    return {name: tensor for name, tensor in state.items() if not name.startswith(HEADS)}


def is_published(init: str) -> bool:
    """Whether ``init`` names weights that others publish, which are no model folder."""
    return init == "torchvision" or init.endswith((".pth", ".caffemodel"))


def start_of(init: str) -> Initialization:
    """The GoogLeNet that belongs to the weights of ``init``, and the input and proposals it is used with.

    New weights belong to the network of the small model, which learns without care for its first rate.

    Raises:
        UserError: there is no such model.
    """
    if is_published(init):
        net = paper_config(aux=False) if init.endswith(".caffemodel") else torchvision_config()
        return Initialization(init, net, CropConfig(), Normalization(), ProposalConfig(), WIDE_MAPS)
    model = read_model_config(named_folder("small" if init == "random" else init))
    member = model.members[0]
    maps = member.shared
    if maps is None and model.multibox is not None:
        maps = model.multibox.maps
    return Initialization(init, member.net, member.crop, member.normalization, model.proposals, maps)


def initialise(net: GoogLeNet | RegionNet, init: str, class_keys: tuple[str, ...] = ()) -> None:
    """Load the weights that ``init`` names into ``net``.

    Missing auxiliary heads stay new, and so do the last layers, unless ``init`` is a model of these ``class_keys``. A
    region network's head is loaded if that was trained the same way for these classes, and MultiBox if it is alike.

    Raises:
        UserError: they cannot be had or belong to another architecture.
    """
    if isinstance(net, RegionNet):
        initialise(net.trunk, init)
        if init != "random" and not is_published(init):
            _initialise_heads(net, named_folder(init), class_keys)
        return
    own = net.state_dict()
    background = net.config.num_outputs != len(class_keys)
    state = initial_weights(init, class_keys, background=background)
    if state is None:
        return
    new = [n for n in own if n not in state and not n.startswith((*HEADS, "aux"))]
    wrong = [n for n, t in state.items() if not n.startswith("aux") and (n not in own or own[n].shape != t.shape)]
    if new or wrong:
        raise UserError(
            f"init {init}: weights of another architecture ({(new + wrong)[0]!r} differs); set training.net"
        )
    net.load_state_dict({**own, **{n: t for n, t in state.items() if n in own and own[n].shape == t.shape}})


def _initialise_heads(net: RegionNet, folder: Path, class_keys: tuple[str, ...]) -> None:
    config = read_model_config(folder)
    alike = (config.members[0].shared is None) == (net.config is None)
    head = read_member(folder, config.members[0], len(config.class_names)).head
    if head is not None and alike and config.class_keys == class_keys and head.shape == net.head.shape:
        net.head.load_state_dict(_scaled(head.state_dict(), 1 / torch.tensor(DELTA_SCALE)))
    if net.multibox is not None and config.multibox is not None:
        other = read_multibox(folder, config.multibox)
        if other.alike(net.multibox):
            net.multibox.load_state_dict(other.state_dict())


def trained_head(net: RegionNet) -> RegionHead:
    """The head of a trained net as a model has it: its deltas in plain tx ty tw th."""
    head = RegionHead(net.head.shape, net.head.num_classes, net.trunk.num_features)
    state = {name: tensor.detach().clone() for name, tensor in net.head.state_dict().items()}
    head.load_state_dict(_scaled(state, torch.tensor(DELTA_SCALE)))
    return head.eval()


def _scaled(state: dict[str, Tensor], unit: Tensor) -> dict[str, Tensor]:
    """A head's weights whose deltas are ``unit`` ``(4,)`` times as large."""
    weight, bias = state["regress.weight"], state["regress.bias"]
    units = unit.to(weight).repeat(len(bias) // 4)
    return {**state, "regress.weight": weight * units[:, None], "regress.bias": bias * units}


def find_teacher(recipe: OneRecipe, class_keys: tuple[str, ...], device: torch.device) -> Ensemble | None:
    """The networks of the model that ``recipe`` has for a teacher, if it has one, in the precision of the run.

    Raises:
        UserError: it cannot be read, has other classes than the data, or no maps for a pupil on shared maps.
    """
    name = recipe.teacher
    if not name:
        return None
    folder = named_folder(name)
    config = read_detector_config(folder)
    if config.class_keys != class_keys:
        raise UserError(
            f"teacher {name}: knows {len(config.class_keys)} classes ({', '.join(config.class_keys[:3])}, ...), "
            f"the data have {len(class_keys)} ({', '.join(class_keys[:3])}, ...); they must be the same, in order"
        )
    if isinstance(recipe, SharedRecipe) and any(member.shared is None for member in config.members):
        raise UserError(f"teacher {name}: classifies crops, and this recipe's networks learn on shared maps")
    return load_ensemble(folder, config, device, precision=recipe.training.precision)
