"""The trunks that region networks stand on, by kind: a new one is a module beside this one, and a row here.

A network has ``config``, ``num_features``, ``trunk`` (images to the last map ``(N, num_features, G, G)``), ``fc`` (the
last layer, on the mean of that map) and ``fold_normalization``; its trunk alone has no ``fc``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from pydantic import Discriminator, Tag

from detector.nets.efficientnet_lite import EfficientNetLite, EfficientNetLiteConfig, EfficientNetLiteTrunk
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig
from detector.nets.trunk import Trunk

Network = GoogLeNet | EfficientNetLite


class TrunkKind(NamedTuple):
    """What builds a network that names classes, and what builds its trunk alone, from a config of the kind."""

    network: Callable[[Any], Network]
    trunk: Callable[[Any], Network]


TRUNKS = {
    "googlenet": TrunkKind(GoogLeNet, Trunk),
    "efficientnet_lite": TrunkKind(EfficientNetLite, EfficientNetLiteTrunk),
}


def _kind(config: Any) -> Any:
    return config.get("kind", "googlenet") if isinstance(config, dict) else getattr(config, "kind", "googlenet")


NetConfig = Annotated[
    Annotated[GoogLeNetConfig, Tag("googlenet")] | Annotated[EfficientNetLiteConfig, Tag("efficientnet_lite")],
    Discriminator(
        _kind, custom_error_type="trunk_kind", custom_error_message=f"kind must be one of {', '.join(TRUNKS)}"
    ),
]


def build_network(config: NetConfig) -> Network:
    """The network of ``config``, new."""
    return TRUNKS[config.kind].network(config)


def build_trunk(config: NetConfig) -> Network:
    """The trunk of ``config`` alone, new; ``num_outputs`` and ``dropout`` have no meaning for it."""
    return TRUNKS[config.kind].trunk(config)
