"""Calls side by side: in order, few at a time, and over when one fails or nobody asks for more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch

from detector.commands import detection_run
from detector.commands.detection_run import TOGETHER, Pace, in_order


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_run, "available_cores", lambda: 3)


def test_results_come_in_order_though_the_first_ends_last() -> None:
    others = threading.Barrier(2)  # calls 1 and 2 meet, and only then may call 0 end
    met = threading.Event()

    def call(number: int) -> int:
        if number == 0:
            assert met.wait(30)
        elif number < 3:
            others.wait(30)
            met.set()
        return number

    assert list(in_order((partial(call, n) for n in range(20)), "side by side")) == list(range(20))


@pytest.mark.parametrize(("pace", "waiting"), [("alone", 2), ("side by side", 4), ("together", TOGETHER)])
def test_few_calls_wait(pace: Pace, waiting: int) -> None:
    asked = 0

    def calls() -> Iterator[Callable[[], int]]:
        nonlocal asked
        while True:
            asked += 1
            yield lambda: 0

    results = in_order(calls(), pace)
    for taken in range(1, 30):
        next(results)
        assert asked == taken + waiting
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_so_many_at_once_as_asked_for(workers: int) -> None:
    together = threading.Barrier(workers)

    def call() -> int:
        together.wait(30)  # broken unless so many calls are in it
        return threading.get_ident()

    assert len(set(in_order([call] * 20 * workers, "side by side", workers))) == workers


@pytest.mark.parametrize(("pace", "threads"), [("alone", 2), ("side by side", 1), ("together", 1)])
def test_threads_of_pytorch(pace: Pace, threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert list(in_order([torch.get_num_threads] * 8, pace)) == [threads] * 8
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_alone_is_one_at_a_time() -> None:
    assert len(set(in_order([threading.get_ident] * 9, "alone"))) == 1


@pytest.mark.parametrize("fault", [ValueError("the fifth"), KeyboardInterrupt()])
def test_a_fault_is_raised_in_its_turn_and_ends_all(fault: BaseException) -> None:
    made: list[int] = []

    def call(number: int) -> int:
        if number == 4:
            raise fault
        made.append(number)
        return number

    results = in_order((partial(call, n) for n in range(1000)), "side by side")
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(type(fault)) as raised:
        next(results)
    assert raised.value is fault
    assert max(made) < 12
