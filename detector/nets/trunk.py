"""GoogLeNet without its classifier: the trunk that heads stand on."""

from __future__ import annotations

from torch import Tensor

from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig


class Trunk(GoogLeNet):
    """``(N, 3, S, S)`` -> ``(N, num_features, G, G)``; the names in the state dict are the classifier's.

    ``num_outputs``, ``aux`` and ``dropout`` of the config have no meaning here.
    """

    def __init__(self, config: GoogLeNetConfig) -> None:
        super().__init__(config.model_copy(update={"aux": False, "num_outputs": 1}))
        del self.fc, self.avgpool, self.dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x)
