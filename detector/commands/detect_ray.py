"""``detect --engine ray``: Ray Data reads the images in tasks and detects in actors, on one machine or on a cluster."""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import chain, islice, repeat
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from detector.commands.console import progress
from detector.commands.detection_files import JSONL_FILE, SavedDetections
from detector.commands.tally import Tally
from proposals.errors import UserError

if TYPE_CHECKING:  # the tasks that read import this module, and do without torch
    from detector.commands.console import Faults
    from detector.commands.inputs import Source
    from detector.detection.pipeline import Detector
    from detector.runs.journal import Journal

INPUTS_OF_A_TASK = 256
BLOCK_BYTES = 1 << 20  # an image or two: in such portions actors take work and give results
CONNECT_SECONDS = 10
CORES_OF_A_READER = 4  # one task that reads to so many cores of the cluster

Row = dict[str, bytes]  # of pickled values: Arrow's text cannot hold the names of files that are no UTF-8


def detect_all_on_ray(
    inputs: Sequence[Source],
    load: Callable[..., Detector],
    journal: Journal,
    faults: Faults,
    cluster: Future[Any],
) -> Tally:
    """Detect in every image of ``inputs`` that is not done yet, and record each in their order.

    Args:
        load: makes the detector in each actor, whose threads are its argument ``threads``. An actor takes a GPU where
            the journal's job says so, or else a core.
        faults: told of each input that cannot be read; it may raise.
        cluster: see :func:`join_cluster`.

    Raises:
        UserError: Ray is not installed, does not begin, or there is no such cluster.
    """
    tally = Tally.of_earlier(journal.folder / JSONL_FILE)
    rest = inputs[journal.inputs :]
    if not rest:
        return tally
    with _joined(cluster) as ray, progress("detecting", None, "image") as advance:
        for item in _results(ray, rest, load, journal):
            if isinstance(item, tuple):
                tally.add(*item)
                journal.add(item[1].to_json())
                advance()
                continue
            if item is not None:
                faults(UserError(item))
            journal.input_done(item)
    return tally


def _results(
    ray: Any, inputs: Sequence[Source], load: Callable[..., Detector], journal: Journal
) -> Iterator[tuple[str, SavedDetections] | str | None]:
    """For each image what messages call it and its detections; behind those of an input its fault, or None."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK_BYTES
    gpu = journal.job.settings["device"] == "cuda"
    pairs = zip(inputs, chain((journal.frames,), repeat(0)), strict=False)
    tasks = []
    while some := list(islice(pairs, INPUTS_OF_A_TASK)):
        tasks.append({"item": pickle.dumps(some)})
    cluster = ray.cluster_resources()
    readers = max(1, int(cluster.get("CPU", 1)) // CORES_OF_A_READER)
    actors = max(1, min(int(cluster.get("GPU" if gpu else "CPU", 1)), len(inputs)))  # at once, later as Ray scales
    here = {"folder": os.getcwd()}  # noqa: PTH109 - as it is, for os.chdir
    found = (
        ray.data.from_items(tasks, override_num_blocks=len(tasks))
        .flat_map(_read, fn_kwargs=here, num_cpus=0, compute=ray.data.TaskPoolStrategy(size=readers))
        .map(
            _Detect,
            fn_constructor_kwargs={**here, "load": load, "threads": None if gpu else 1},
            compute=ray.data.ActorPoolStrategy(min_size=1, initial_size=actors),
            **({"num_gpus": 1} if gpu else {"num_cpus": 1}),
        )
    )
    for row in found.iter_rows():
        yield pickle.loads(row["item"])


def _read(row: Row, folder: str) -> Iterator[Row]:
    """Of each of some inputs the frames, and then what went wrong, or None; paths are relative to ``folder``."""
    os.chdir(folder)
    for source, done in pickle.loads(row["item"]):
        fault = None
        try:
            for frame in islice(source.frames(reduced=True), done, None):
                yield {"item": pickle.dumps(frame)}
        except UserError as error:
            fault = str(error)
        yield {"item": pickle.dumps(fault)}


class _Detect:
    """An actor: a detector for one frame after the other."""

    def __init__(self, folder: str, load: Callable[..., Detector], threads: int | None) -> None:
        os.chdir(folder)
        self.network = load(threads=threads)

    def __call__(self, row: Row) -> Row:
        frame = pickle.loads(row["item"])
        if frame is None or isinstance(frame, str):
            return row
        found = self.network.detect(frame.image)[0].resized(frame.image_size)
        saved = SavedDetections.of(frame.image_id, frame.path, found, self.network.class_names)
        return {"item": pickle.dumps((frame.shown, saved))}


def join_cluster(address: str | None) -> Future[Any]:
    """Begin to join a cluster: the module ``ray`` once it is done, which takes seconds.

    Args:
        address: of the cluster; by default ``RAY_ADDRESS``, or Ray on this machine, which is begun.
    """
    found: Future[Any] = Future()

    def join() -> None:
        try:
            found.set_result(_join(address))
        except BaseException as error:
            found.set_exception(error)
        Event().wait()  # Ray's processes end with the thread that began them

    Thread(target=join, daemon=True).start()
    return found


def _join(address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise UserError("--engine ray needs Ray: pip install 'googlenet-detector[ray]'") from None
    _look_for(address or os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(address, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # of many kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"Ray cannot begin here or join the cluster ({reason}); check --address and RAY_ADDRESS"
        ) from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def _look_for(address: str) -> None:
    """UserError where nothing listens at ``address``, if that is a host and a port: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster at {address} ({error}); check --address and RAY_ADDRESS") from None


@contextmanager
def _joined(cluster: Future[Any]) -> Iterator[Any]:
    ray = cluster.result()
    try:
        yield ray
    finally:
        ray.shutdown()
