"""An experiment's model directory whose members have the heads that were fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load as load_safetensors
from torch import Tensor

from detector.detection.suppression import RefinementConfig
from detector.model.config import ModelConfig, read_model_config
from detector.model.save import begin_copy, head_tensors, write_model_config
from detector.nets.region_head import RegionHead
from detector.nets.weights import save_weights, sha256


def stored_head(head: RegionHead) -> dict[str, Tensor]:
    """A head as it is stored: the last layer in float16, as networks are, and a large regression as well."""
    whole = ("judge.", "regress.") if head.shape.shared else ("judge.",)  # small, and small weights, too
    return {name: t if name.startswith(whole) else t.half() for name, t in head.state_dict().items()}


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
        weights = out / members[number].file
        state = load_safetensors(weights.read_bytes())
        if members[number].head is None:  # the last layer is the head's now
            state = {f"trunk.{name}": t for name, t in state.items() if not name.startswith("fc.")}
        trunk = {name: t for name, t in state.items() if name.startswith("trunk.")}
        save_weights(weights, trunk | head_tensors(stored_head(head)))
        members[number] = members[number].model_copy(update={"sha256": sha256(weights), "head": head.shape})
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
