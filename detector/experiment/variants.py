"""What an experiment varies: a variant is a model whose ``model.yaml`` is changed in some places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from detector.model.config import ModelConfig
from detector.strict_yaml import parse
from proposals.errors import UserError
from proposals.merge import Budget

PLAIN_SCALE, DOUBLED_SCALE = 1.0, 2.0  # superpixels of R-CNN, and of the paper
SOFT_SIGMA = 0.5  # Bodla et al., Soft-NMS, ICCV 2017
BUDGETS = (100, 300, 1000)  # proposals of an image
Settings = dict[str, Any]


class Variant(BaseModel):
    """One row of an experiment's table.

    Attributes:
        name: of the row. model: which of the experiment's models; "" is the first.
        members: which of its networks, by number from 0; none given are all of them.
        change: of ``model.yaml``, as ``{postprocess: {soft_sigma: 0.5}}`` or ``{multibox: null}``.
        member_change: of each network's entry in it, as ``{crop: {context_pad: 0}}``.
        combine: the networks' probabilities by their mean, their geometric mean or their maximum, made to sum to one;
            ``nms`` suppresses what each network finds by itself, all of it together, as SPP-net joins two.
        against: the rows whose mean AP this one's is compared with; their mean, if there are several.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    model: str = ""
    members: tuple[int, ...] = ()
    change: Settings = {}
    member_change: Settings = {}
    combine: Literal["mean", "geometric", "maximum", "nms"] = "mean"
    against: tuple[str, ...] = ()

    def of(self, config: ModelConfig) -> ModelConfig:
        """``config`` as this variant changes it.

        Raises:
            UserError: it lacks one of the members, or what is changed does not fit together.
        """
        numbers = self.members or range(len(config.members))
        if len(set(numbers)) < len(numbers) or not 0 <= min(numbers) <= max(numbers) < len(config.members):
            there = len(config.members)
            raise UserError(f"variant {self.name}: members {list(numbers)} must be different, from 0 to {there - 1}")
        members = [merged(config.members[n].model_dump(), self.member_change) for n in numbers]
        settings = merged({**config.model_dump(), "members": members}, self.change)
        return parse(ModelConfig, settings, f"variant {self.name}")


def merged(settings: Mapping[str, Any], change: Mapping[str, Any]) -> Settings:
    """``settings`` with the values of ``change`` in their place, mapping by mapping."""
    found = dict(settings)
    for name, value in change.items():
        old = found.get(name)
        found[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return found


def paper_variants(config: ModelConfig, model: str = "", prefix: str = "") -> list[Variant]:
    """The paper's comparisons as far as a model allows them: its networks alone and together, and each part left out.

    Args:
        model: the experiment's name for it. prefix: of the names of the rows.
    """
    count = len(config.members)
    whole = f"{prefix}{count} networks" if count > 1 else f"{prefix}1 network"
    alone = tuple(f"{prefix}network {n + 1} alone" for n in range(count)) if count > 1 else ()
    rows = [Variant(name=name, model=model, members=(n,)) for n, name in enumerate(alone)]
    for some in range(2, count):
        first = tuple(range(some))
        rows.append(Variant(name=f"{prefix}{some} networks", model=model, members=first, against=alone[:some]))
    rows.append(Variant(name=whole, model=model, against=alone))
    for name, against, fields in _ablations(config):
        other = prefix + against if against else whole
        rows.append(Variant(name=prefix + name, model=model, against=(other,), **fields))
    return rows


def _ablations(config: ModelConfig) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name of a row, of the one it is compared with ("" is the model itself), and what it changes."""
    scale = config.proposals.selective_search.superpixel_scale
    other = DOUBLED_SCALE if scale == PLAIN_SCALE else PLAIN_SCALE
    searched: Settings = {"proposals": {"selective_search": {"superpixel_scale": other}}}
    if config.multibox is not None and config.multibox.merge.budget.multibox != 0:
        yield "selective search alone", "", {"change": {"multibox": None}}
        change = {"multibox": None, **searched}
        yield f"selective search alone, scale {other:g}", "selective search alone", {"change": change}
    else:
        yield f"selective search at scale {other:g}", "", {"change": searched}
        if config.multibox is not None:
            joined: Settings = {"multibox": {"merge": {"budget": {"multibox": Budget().multibox}}}}
            yield "merged with MultiBox", "", {"change": joined}
    for budget in BUDGETS:
        if budget != config.proposals.max_proposals:
            yield f"at most {budget} proposals", "", {"change": {"proposals": {"max_proposals": budget}}}
    if config.refinement is not None:
        moved_once = ""
        if config.refinement.rounds > 1:
            moved_once = "without refinement"
            yield moved_once, "", {"change": {"refinement": {"rounds": 1}}}
        else:
            yield "with refinement", "", {"change": {"refinement": {"rounds": 2}}}
        yield "without box regression", moved_once, {"change": {"refinement": None}}
        if config.refinement.first_members is not None:
            yield "without cascade", "", {"change": {"refinement": {"first_members": None}}}
    if config.postprocess.overlap_power:
        yield "without overlap", "", {"change": {"postprocess": {"overlap_power": 0.0}}}
    elif any(member.head is not None and member.head.overlap for member in config.members):
        yield "with overlap", "", {"change": {"postprocess": {"overlap_power": 1.0}}}
    plain: Settings = {"postprocess": {"soft_sigma": None}}
    if config.postprocess.soft_sigma is None:
        yield "soft suppression", "", {"change": {"postprocess": {"soft_sigma": SOFT_SIGMA}}}
    else:
        yield "plain suppression", "", {"change": plain}
    if len(config.members) > 1:
        yield "geometric mean", "", {"combine": "geometric"}
        yield "maximum", "", {"combine": "maximum"}
        against = "" if config.postprocess.soft_sigma is None else "plain suppression"
        yield "joined by NMS", against, {"combine": "nms", "change": plain}
    if all(member.shared is None and member.crop.context_pad for member in config.members):
        yield "without context", "", {"member_change": {"crop": {"context_pad": 0}}}
