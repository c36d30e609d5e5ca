"""An experiment's model directory whose members have the heads that were fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load as load_safetensors

from detector.detection.suppression import RefinementConfig
from detector.model.config import HeadConfig, ModelConfig, read_model_config
from detector.model.save import begin_copy, write_model_config
from detector.nets.region_head import RegionHead
from detector.nets.weights import save_weights, sha256


def save_head(file: Path, head: RegionHead) -> None:
    """Write a head: the last layer in float16, as networks are; a regression of each class as well, for its size."""
    whole = ("judge.", "regress.") if head.shape.shared else ("judge.",)  # small, and small weights, too
    save_weights(file, {name: t if name.startswith(whole) else t.half() for name, t in head.state_dict().items()})


def with_heads(model: Path, heads: Sequence[RegionHead | None], out: Path, overlap_power: float = 0.0) -> ModelConfig:
    """Make ``out`` a copy of the model directory ``model`` whose first members have ``heads``.

    Args:
        overlap_power: of scores, if any head predicts overlaps.

    Raises:
        UserError: ``model`` is not what it should be, or ``out`` is a model directory already.
    """
    config = read_model_config(model)
    begin_copy(out, [model / file for file in config.files])
    members = list(config.members)
    for number, head in enumerate(heads):
        if head is None:
            continue
        # The file holds the trunk alone now; the last layer is the head's.
        weights, file = out / members[number].file, out / f"head-{number}.safetensors"
        state = load_safetensors(weights.read_bytes())
        save_weights(weights, {name: t for name, t in state.items() if not name.startswith("fc.")})
        save_head(file, head)
        own = HeadConfig(file=file.name, sha256=sha256(file), shape=head.shape)
        members[number] = members[number].model_copy(update={"sha256": sha256(weights), "head": own})
    moves = any(head is not None and head.regress is not None for head in heads)
    judges = any(head is not None and head.judge is not None for head in heads)
    power = overlap_power if judges else 0.0
    changes = {
        "members": tuple(members),
        "refinement": RefinementConfig(rounds=1) if moves else None,
        "postprocess": config.postprocess.model_copy(update={"overlap_power": power}),
    }
    joined = ModelConfig.model_validate({**dict(config), **changes})
    write_model_config(out, joined)
    return joined
