"""The ``propose`` verb: selective search over many images, into a store."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.commands.console import SKIPPED, Faults, print_line, progress, quiet_pillow
from detector.commands.options import OnErrorWord, ShardWord
from proposals.errors import UserError

if TYPE_CHECKING:
    from detector.commands.inputs import Input

AHEAD = 4  # inputs that wait for each worker


def propose(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Images, folders, patterns, .txt lists, videos; - for standard input."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Cache of proposals: new, or one to add to.")] = Path(
        "runs/proposals"
    ),
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="Preset of selective search: single, fast, quality or googlenet.")
    ] = "googlenet",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed for proposal ranking.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Worker processes.", show_default="one per core")
    ] = None,
    on_error: OnErrorWord = "fail",
    shard: ShardWord = None,
) -> None:
    """Propose boxes in many images and store them, one checksummed file per image.

    Images whose proposals are in the store already are passed over, so a run that was
    interrupted goes on where it stopped; [bold]evaluate-proposals --store[/bold] reads the
    store. A file belongs to the image's content and all settings. --shard 2/4 takes the
    second of four parts of the list, on any machine, into a store of its own;
    [bold]detector merge[/bold] makes one store of the parts.

    [bold]Example:[/bold] detector propose photos/ --out runs/proposals
    """
    from detector.commands.inputs import find_inputs
    from detector.commands.store_shards import begin_shard, end_shard
    from detector.runs.shards import Shard
    from proposals.selective_search import SelectiveSearch, available_cores
    from proposals.store import ProposalStore

    part = None if shard is None else Shard.parse(shard)
    search = SelectiveSearch(preset, seed, threads=1)
    faults = Faults(skip=on_error == "skip")
    pictures = find_inputs(inputs, faults)
    if part is not None:
        job = begin_shard(out, pictures, search.settings(), part)
        if part.index > 1:  # every shard finds the same faults in the list; the first counts them
            faults = Faults(faults.skip)
        pictures = pictures[job.positions.start : job.positions.stop]
    ProposalStore(out, search.settings()).remove_unfinished()
    counts = {"made": 0, "there": 0, "boxes": 0}
    started = time.perf_counter()
    each = _results(pictures, out, search, min(workers or available_cores(), max(1, len(pictures))))
    with progress("proposing", len(pictures), "image") as advance, closing(each) as results:  # its processes end here
        for numbers, fault in results:
            for name, number in numbers.items():
                counts[name] += number
            if fault is not None:
                faults(fault)
            advance()
    seconds = time.perf_counter() - started
    images = counts["made"] + counts["there"]
    if part is not None:
        end_shard(out, job, faults.told, {"images": images, "boxes": counts["boxes"]})
    print_line(
        f"{out}: {images:,} images, {counts['made']:,} of them new, "
        f"{counts['boxes'] / max(1, images):,.0f} boxes each; {seconds:.1f} s, {images / seconds:.1f} images/s"
    )
    if faults.count:
        raise typer.Exit(SKIPPED)


def _results(
    pictures: Sequence[Input], out: Path, search: Any, workers: int
) -> Generator[tuple[dict[str, int], UserError | None], None, None]:
    """What :func:`_work` returns of each image, in their order; in this process where one is enough."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    from detector.training.ahead import in_turn

    calls = (partial(_work, picture, out, search) for picture in pictures)
    if workers == 1:
        yield from (call() for call in calls)
        return
    # Fresh processes: forking one that has started threads can leave the copy waiting for ever.
    context = multiprocessing.get_context("spawn")
    pool: Any = ProcessPoolExecutor(workers, mp_context=context, initializer=quiet_pillow)
    yield from in_turn(calls, pool, AHEAD * workers)


def _work(picture: Input, out: Path, search: Any) -> tuple[dict[str, int], UserError | None]:
    """Store the proposals of one input's frames: how many were made, were there already, and their boxes; its fault."""
    from proposals.store import ProposalStore

    store = ProposalStore(out, search.settings(), search)
    counts = {"made": 0, "there": 0, "boxes": 0}
    try:
        for frame in picture.frames():
            proposals, made = store.get(frame.image)
            counts["made" if made else "there"] += 1
            counts["boxes"] += len(proposals)
    except UserError as fault:
        return counts, fault
    return counts, None
