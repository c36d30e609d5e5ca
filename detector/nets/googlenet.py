"""GoogLeNet (Szegedy et al., Going Deeper with Convolutions, Table 1) and its variants for region classification.

Glossary of shapes, for an input of side S and the paper's stem (S = 224 in brackets):
    stem    (N, 3, S, S) -> (N, 192, S/8, S/8)          [28]
    stage 3 inception 3a, 3b, pool -> (N, 480, S/16)    [14]
    stage 4 inception 4a..4e, pool -> (N, 832, S/32)    [7]
    stage 5 inception 5a, 5b -> (N, 1024, S/32)         [7]
    head    average over all positions, dropout, linear -> (N, num_outputs)
Pooling sizes round up, as in Caffe. Module names are torchvision's, so that its state dict loads as it is.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from detector.nets.inception import ConvUnit, Inception, InceptionChannels, Pool
from detector.nets.kernels import has_bits, normalize_responses

# Table 1, columns #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
TABLE_1: dict[str, InceptionChannels] = {
    "3a": InceptionChannels(64, 96, 128, 16, 32, 32),
    "3b": InceptionChannels(128, 128, 192, 32, 96, 64),
    "4a": InceptionChannels(192, 96, 208, 16, 48, 64),
    "4b": InceptionChannels(160, 112, 224, 24, 64, 64),
    "4c": InceptionChannels(128, 128, 256, 24, 64, 64),
    "4d": InceptionChannels(112, 144, 288, 32, 64, 64),
    "4e": InceptionChannels(256, 160, 320, 32, 128, 128),
    "5a": InceptionChannels(256, 160, 320, 32, 128, 128),
    "5b": InceptionChannels(384, 192, 384, 48, 128, 128),
}
AUX_LOSS_WEIGHT = 0.3  # paper, section 5
AUX_DROPOUT = 0.7
FIRST_LAYERS = ("conv1", "conv2", "conv3", "inception3a", "inception3b")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGE_4 = ("4a", "4b", "4c", "4d", "4e")


class GoogLeNetConfig(BaseModel):
    """Which GoogLeNet to build.

    Attributes:
        kind: of network, in ``model.yaml`` and recipes; there is this one.
        num_outputs: logits; K + 1 for a region classifier (background last), K for a whole-image classifier.
        norm: "lrn" is the paper's net (biases, local response normalisation); "batch" has batch normalisation after
            every convolution instead.
        kernel5: kernel of the Inception modules' "5x5" branch; torchvision's port has 3.
        pool4_kernel: kernel of the pooling after 4e; torchvision's port has 2.
        width: multiplies every channel count of Table 1, rounded to a multiple of 8 (1.0 leaves Table 1 alone).
        stem: by how much the layers before 3a shrink the input: "stride8" is the paper's; "stride4" drops the first
            pooling and "stride2" the first stride as well, with a 3x3 convolution in place of the 7x7, for small crops.
        aux: auxiliary classifiers on 4a and 4d while training.
        aux_pool: "paper" is 5x5 stride 3; "adaptive" is torchvision's 4x4 whatever the input.
        dropout: before the last layer; 0.4 in the paper.
        transform_input: torchvision's remapping of ImageNet-normalised input to (x - 0.5) / 0.5.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["googlenet"] = "googlenet"
    num_outputs: int = Field(default=1000, ge=1, le=1_000_000)
    norm: Literal["lrn", "batch"] = "lrn"
    kernel5: Literal[3, 5] = 5
    pool4_kernel: Literal[2, 3] = 3
    width: float = Field(default=1.0, gt=0, le=4)
    stem: Literal["stride8", "stride4", "stride2"] = "stride8"
    aux: bool = False
    aux_pool: Literal["paper", "adaptive"] = "paper"
    dropout: float = Field(default=0.4, ge=0, lt=1)
    transform_input: bool = False

    def channels(self, count: int) -> int:
        """A channel count of Table 1 times ``width``: a multiple of 8 unless the width is 1."""
        return count if self.width == 1 else max(8, round(count * self.width / 8) * 8)

    def inception(self, name: str) -> InceptionChannels:
        """The row of Table 1 called ``name`` ("3a" ... "5b"), widened."""
        return InceptionChannels(*(self.channels(n) for n in TABLE_1[name]))


def paper_config(num_outputs: int = 1000, *, aux: bool = True) -> GoogLeNetConfig:
    """Table 1 to the letter: true 5x5, local response normalisation, auxiliary heads."""
    return GoogLeNetConfig(num_outputs=num_outputs, aux=aux)


def torchvision_config(num_outputs: int = 1000, *, aux: bool = False, transform_input: bool = True) -> GoogLeNetConfig:
    """The network of ``torchvision.models.googlenet``, whose state dict loads into it."""
    return GoogLeNetConfig(
        num_outputs=num_outputs,
        norm="batch",
        kernel5=3,
        pool4_kernel=2,
        aux=aux,
        aux_pool="adaptive",
        dropout=0.2,
        transform_input=transform_input,
    )


class Logits(NamedTuple):
    """Training output with auxiliary heads; each ``(N, num_outputs)``."""

    main: Tensor
    aux_4a: Tensor
    aux_4d: Tensor


class AuxiliaryClassifier(nn.Module):
    """The paper's auxiliary classifier: 5x5/3 average pool, 1x1 convolution, two linear layers, 70 % dropout.

    ``(N, in, H, W)`` -> ``(N, num_outputs)``.
    """

    def __init__(self, in_channels: int, config: GoogLeNetConfig) -> None:
        super().__init__()
        conv, hidden = config.channels(128), config.channels(1024)
        self.adaptive = config.aux_pool == "adaptive"
        self.conv = ConvUnit(in_channels, conv, 1, norm="batch" if config.norm == "batch" else "none")
        self.fc1 = nn.Linear(conv * 16, hidden)
        self.dropout = nn.Dropout(AUX_DROPOUT)
        self.fc2 = nn.Linear(hidden, config.num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, 4) if self.adaptive else F.avg_pool2d(x, 5, stride=3)
        x = self.conv(x)  # (N, 128, 4, 4)
        x = torch.flatten(x, 1)
        if x.shape[1] != self.fc1.in_features:
            raise ValueError("the paper's auxiliary heads need a 14x14 map (224-pixel crops); use aux_pool: adaptive")
        x = F.relu(self.fc1(x), inplace=True)
        return self.fc2(self.dropout(x))  # type: ignore[no-any-return]


class ResponseNorm(nn.Module):
    """Local response normalisation across channels (AlexNet, section 3.3), with Caffe's constants.

    Each value is divided by (1 + 1e-4 / 5 * the sum of the squares of five neighbouring channels) ** 0.75. Where a
    gradient is needed, or on a GPU, the sums are a 1x1 convolution with a band matrix: PyTorch's own module takes
    several times as long on a CPU.
    """

    band: Tensor

    def __init__(self, channels: int, size: int = 5, alpha: float = 1e-4) -> None:
        super().__init__()
        place = torch.arange(channels)
        near = (place[:, None] - place).abs() <= size // 2
        self.register_buffer("band", near.float().view(channels, channels, 1, 1), persistent=False)
        self.scale = math.sqrt(alpha / size)  # of the values, since half precision cannot hold the squares of hundreds

    def forward(self, x: Tensor) -> Tensor:
        if has_bits(x):
            return normalize_responses(x, self.scale)
        small = x * self.scale
        root = F.conv2d(small * small, self.band).add(1).rsqrt()
        return x * (root * root.sqrt())


class GoogLeNet(nn.Module):
    """The network of ``config``.

    ``(N, 3, S, S)`` float -> logits ``(N, num_outputs)``; :class:`Logits` while training with auxiliary heads.
    """

    map_scale: Tensor | None = None
    """Of a net in int8: the scale ``(C,)`` of 4e's map in bytes, see :mod:`detector.nets.int8`."""

    def __init__(self, config: GoogLeNetConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        norm: Literal["none", "batch"] = "batch" if config.norm == "batch" else "none"
        lrn = config.norm == "lrn"

        small = config.stem != "stride8"
        first_stride = 1 if config.stem == "stride2" else 2
        self.conv1 = ConvUnit(3, c(64), 3 if small else 7, stride=first_stride, norm=norm)
        self.maxpool1 = nn.Identity() if small else Pool(3, 2)
        # Caffe's replication: after the first pooling and before the second; alpha is divided by the size, as here.
        self.norm1 = ResponseNorm(c(64)) if lrn else nn.Identity()
        self.conv2 = ConvUnit(c(64), c(64), 1, norm=norm)
        self.conv3 = ConvUnit(c(64), c(192), 3, norm=norm)
        self.norm2 = ResponseNorm(c(192)) if lrn else nn.Identity()
        self.maxpool2 = Pool(3, 2)

        channels = c(192)
        for name in TABLE_1:
            row = config.inception(name)
            self.add_module(f"inception{name}", Inception(channels, row, kernel5=config.kernel5, norm=norm))
            channels = row.out
        self.maxpool3 = Pool(3, 2)
        self.maxpool4 = Pool(config.pool4_kernel, 2)
        self.aux1 = AuxiliaryClassifier(config.inception("4a").out, config) if config.aux else None
        self.aux2 = AuxiliaryClassifier(config.inception("4d").out, config) if config.aux else None
        self.num_features = channels
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(channels, config.num_outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Caffe's filler for the paper's net (Xavier, biases 0.2, classifier 0); He's for batch normalisation."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if self.config.norm == "lrn":
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.constant_(cast(Tensor, module.bias), 0.2)
                else:
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.constant_(module.bias, 0.2 if self.config.norm == "lrn" else 0.0)
        for head in (self.fc, *(aux.fc2 for aux in (self.aux1, self.aux2) if aux is not None)):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def fold_normalization(self) -> GoogLeNet:
        """Fold batch normalisation into the convolutions, in place, for inference: same outputs, less work."""
        if self.training:
            raise ValueError("fold a net in evaluation mode: training needs the batch's statistics")
        for module in self.modules():
            if isinstance(module, ConvUnit):
                module.fold_normalization()
        return self

    def map_4e(self, x: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """The layers up to 4e: ``(N, 3, S, S)`` -> ``(N, 832, S/16, S/16)`` with the paper's stem and width.

        ``taps``, if given, receives the outputs of 4a and 4d under those names.
        """
        return self.stage_4(self.map_3b(x), taps)

    def map_3b(self, x: Tensor) -> Tensor:
        """The layers up to the pooling behind 3b: ``(N, 3, S, S)`` -> ``(N, 480, S/16, S/16)``, as :meth:`map_4e`."""
        if self.config.transform_input:
            # Normalised with ImageNet's mean and deviation becomes (x - 0.5) / 0.5, as torchvision's weights expect.
            std, mean = (x.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_STD, IMAGENET_MEAN))
            x = (x * std + mean - 0.5) / 0.5
        x = self.norm1(self.maxpool1(self.conv1(x)))
        x = self.maxpool2(self.norm2(self.conv3(self.conv2(x))))
        return self.maxpool3(self.inception3b(self.inception3a(x)))  # type: ignore[no-any-return, operator]

    def stage_4(self, x: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """4a to 4e, behind :meth:`map_3b`; ``taps`` as for :meth:`map_4e`."""
        for name in STAGE_4:
            x = self.get_submodule(f"inception{name}")(x)
            if taps is not None and name in ("4a", "4d"):
                taps[name] = x
        return x

    def begins_like(self, other: GoogLeNet) -> bool:
        """Whether :meth:`map_3b` of both nets is the same, as of nets that were trained with these layers frozen."""
        same = ("norm", "kernel5", "width", "stem", "transform_input")
        if any(getattr(self.config, name) != getattr(other.config, name) for name in same):
            return False
        if self.map_scale is not None or other.map_scale is not None:  # in int8, where there is nothing to compare
            return False
        pairs = zip(self._first_layers(), other._first_layers(), strict=True)
        states = [(one.state_dict(), two.state_dict()) for one, two in pairs]
        return all(torch.equal(value, two[name]) for one, two in states for name, value in one.items())

    def freeze_stage_3(self) -> None:
        """Let the layers up to 3b keep their weights and statistics whatever is trained."""
        for layer in self._first_layers():
            layer.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> GoogLeNet:
        """See the base class; frozen layers stay in evaluation mode."""
        super().train(mode)
        for layer in self._first_layers():
            if not any(weight.requires_grad for weight in layer.parameters()):
                layer.eval()
        return self

    def _first_layers(self) -> list[nn.Module]:
        return [self.get_submodule(name) for name in FIRST_LAYERS]

    def after_4e(self, x: Tensor) -> Tensor:
        """The pooling behind 4e, 5a and 5b: ``(N, 832, s, s)`` -> ``(N, num_features, s/2, s/2)``."""
        return self.inception5b(self.inception5a(self.maxpool4(x)))  # type: ignore[no-any-return, operator]

    def trunk(self, x: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """The network without head: ``(N, 3, S, S)`` -> ``(N, num_features, S/32, S/32)`` with the paper's stem.

        ``taps`` as for :meth:`map_4e`.
        """
        return self.after_4e(self.map_4e(x, taps))

    def features(self, x: Tensor, taps: dict[str, Tensor] | None = None) -> Tensor:
        """The pooled features that the last layer classifies: ``(N, 3, S, S)`` -> ``(N, num_features)``.

        ``taps`` as for :meth:`trunk`.
        """
        return torch.flatten(self.avgpool(self.trunk(x, taps)), 1)

    def forward(self, x: Tensor) -> Tensor | Logits:
        taps: dict[str, Tensor] = {}
        main = self.fc(self.dropout(self.features(x, taps)))
        if self.training and self.aux1 is not None and self.aux2 is not None:
            return Logits(main, self.aux1(taps["4a"]), self.aux2(taps["4d"]))
        return main  # type: ignore[no-any-return]


class Trunk(GoogLeNet):
    """GoogLeNet without its classifier, for heads to stand on: ``(N, 3, S, S)`` -> ``(N, num_features, G, G)``.

    The names in the state dict are the classifier's; ``num_outputs``, ``aux`` and ``dropout`` have no meaning here.
    """

    def __init__(self, config: GoogLeNetConfig) -> None:
        super().__init__(config.model_copy(update={"aux": False, "num_outputs": 1}))
        del self.fc, self.avgpool, self.dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x)
