"""The gradient of a batch: in parts when the memory is short, in mixed precision, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detector.training.gradients import Gradients, Outcome, choose_precision, parameter_groups
from detector.training.processes import Machine, Processes
from proposals.errors import UserError

CPU = torch.device("cpu")
BATCH = 10


class Hungry(nn.Module):
    """A linear layer that needs more memory than there is for more than ``most`` rows."""

    def __init__(self, most: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.most, self.seen = nn.Linear(3, 2), most, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore lines")
        return self.layer(x)


def gradients(net: nn.Module, precision: Any = "float32", **machine: Any) -> Gradients[Tensor]:
    def outcome(x: Tensor) -> Outcome:
        return Outcome(net(x).square().mean(), len(x), (float(len(x)),))

    return Gradients(
        net,
        torch.optim.SGD(net.parameters(), lr=0.1),
        machine=Machine(CPU, **machine),
        precision=precision,
        batch_size=BATCH,
        split=lambda x, parts: list(x.chunk(parts)),
        outcome=outcome,
    )


def batch() -> Tensor:
    return torch.randn(BATCH, 3, generator=torch.Generator().manual_seed(1))


def test_out_of_memory_halves_the_batch_and_adds_up_the_gradients() -> None:
    told: list[str] = []
    roomy, tight = Hungry(BATCH), Hungry(3)
    expected = gradients(roomy).of(batch())
    cramped = gradients(tight, log=told.append)
    found = cramped.of(batch())
    torch.testing.assert_close(found.loss, expected.loss.detach())
    assert found.examples == BATCH
    assert found.figures == (float(BATCH),)
    for a, b in zip(tight.parameters(), roomy.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    assert tight.seen == [10, 5, 3, 3, 3, 1]  # whole, in two, in four
    assert [line.split(":")[0] for line in told] == ["the GPU's memory does not suffice"] * 2
    assert "parts of 3" in told[1]
    cramped.of(batch())
    assert tight.seen[6:] == [3, 3, 3, 1], "the next batch must not try what has failed"


def test_parts_to_begin_with() -> None:
    net = Hungry(BATCH)
    gradients(net, micro_batch=4).of(batch())
    assert net.seen == [4, 4, 2]


def test_memory_that_never_suffices() -> None:
    with pytest.raises(UserError, match=r"does not suffice even for 2 crops \(CUDA out of memory") as caught:
        gradients(Hungry(0)).of(batch())
    assert "\n" not in str(caught.value)


def test_several_processes_cannot_halve_alone() -> None:
    with pytest.raises(UserError, match=r"process 1: .* --micro-batch 2 and --resume"):
        gradients(Hungry(0), processes=Processes(1, 2)).of(batch())


def test_other_faults_pass() -> None:
    net = Hungry(BATCH)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        gradients(net).of(torch.randn(BATCH, 4))


def test_mixed_precision() -> None:
    net = Hungry(BATCH)
    types: list[torch.dtype] = []
    net.layer.register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    for precision in ("float32", "bfloat16", "auto"):
        gradients(net, precision=precision).of(batch())
    assert types == [torch.float32, torch.bfloat16, torch.float32]  # automatically float32 on the CPU
    assert net.layer.weight.dtype == net.layer.weight.grad.dtype == torch.float32
    with pytest.raises(UserError, match="float16 needs a GPU"):
        gradients(net, precision="float16")


def test_a_gpu_gets_the_best_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    for has, chosen in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has: has)
        assert choose_precision("auto", gpu) == chosen
    assert choose_precision("float32", gpu) == torch.float32


def test_the_step_follows_the_adjusted_gradient() -> None:
    net = Hungry(BATCH)
    before = net.layer.weight.detach().clone()
    made = gradients(net)
    made.of(batch())
    made.step(lambda: net.layer.weight.grad.fill_(1.0))
    torch.testing.assert_close(net.layer.weight.detach(), before - 0.1)


def test_a_new_layer_learns_faster() -> None:
    net = nn.ModuleDict({"conv1": nn.Linear(2, 2), "fc": nn.Linear(2, 2)})
    plain = parameter_groups(net, 0.1)
    assert [len(group["params"]) for group in plain] == [2, 2]
    assert [group["weight_decay"] for group in plain] == [0.1, 0.0]
    trunk, trunk_bias, head, head_bias = parameter_groups(net, 0.1, ("fc.",), 10.0)
    assert head["params"][0] is net["fc"].weight
    assert head_bias["params"][0] is net["fc"].bias
    assert [g.get("scale", 1.0) for g in (trunk, trunk_bias, head, head_bias)] == [1, 1, 10, 10]
    assert [g["weight_decay"] for g in (trunk, trunk_bias, head, head_bias)] == [0.1, 0, 0.1, 0]
