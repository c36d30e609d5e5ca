"""First weights of a MultiBox training: a trunk, or a whole network as far as it fits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detector.nets.googlenet import GoogLeNetConfig
from detector.nets.multibox import save_multibox
from detector.nets.trunk import Trunk
from detector.nets.weights import Normalization
from detector.recipes.build_multibox import initialise_multibox
from proposals.errors import UserError
from proposals.multibox import MultiBoxConfig, MultiBoxNet
from proposals.priors import Priors, fit, grid_priors

TRUNK = GoogLeNetConfig(num_outputs=2, norm="batch", width=0.1, stem="stride4")


def network(seed: int, priors: Priors | None = None, *, coarse: int = 16, width: float = 0.1) -> MultiBoxNet:
    torch.manual_seed(seed)
    trunk = Trunk(TRUNK.model_copy(update={"width": width}))
    if priors is None:
        return MultiBoxNet(trunk, grid_priors(), MultiBoxConfig(head="convolutional", input_size=128, coarse=coarse))
    return MultiBoxNet(trunk, priors, MultiBoxConfig(input_size=32, hidden=8))


def some_priors(seed: int) -> Priors:
    corner = torch.rand(60, 2, generator=torch.Generator().manual_seed(seed)).numpy() * 0.5
    return fit(torch.cat([torch.from_numpy(corner), torch.from_numpy(corner) + 0.3], 1).numpy(), 5)


def saved(folder: Path, net: MultiBoxNet, priors: Priors) -> Path:
    save_multibox(folder, net, priors, TRUNK, Normalization(), name="m", licence="MIT", half=False)
    return folder


def changed(net: MultiBoxNet, init: str) -> set[str]:
    """Modules, two names deep, whose weights ``init`` has changed."""
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    initialise_multibox(net, init)
    return {".".join(n.split(".")[:2]) for n, t in net.state_dict().items() if not torch.equal(t, before[n])}


def test_the_same_network_is_taken_whole(tmp_path: Path) -> None:
    first, second = network(0), network(1)
    initialise_multibox(second, str(saved(tmp_path / "m", first, grid_priors())))
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor)


def test_of_another_head_the_layers_that_fit(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", network(0), grid_priors())
    names = {name for name in changed(network(1, coarse=24), str(folder)) if name.startswith("head")}
    assert names == {"head.to8", "head.to6", "head.to3", "head.to2", "head.location", "head.confidence"}


@pytest.mark.parametrize("same", [True, False])
def test_a_head_of_other_priors_stays_new(tmp_path: Path, same: bool) -> None:
    folder = saved(tmp_path / "m", network(0, some_priors(0)), some_priors(0))
    names = changed(network(1, some_priors(0 if same else 1)), str(folder))
    assert any(name.startswith("trunk") for name in names)
    assert any(name.startswith("head") for name in names) == same


def test_another_trunk_is_one_line(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", network(0), grid_priors())
    with pytest.raises(UserError, match=r"another architecture .* set training\.trunk"):
        initialise_multibox(network(1, width=0.15), str(folder))


def test_random_changes_nothing() -> None:
    assert changed(network(0), "random") == set()
