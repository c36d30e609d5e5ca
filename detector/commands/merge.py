"""``detector merge``: the shards of one job into what one process would have written."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands.console import SKIPPED, log, print_line, progress
from proposals.errors import UserError

if TYPE_CHECKING:
    from detector.commands.tally import Tally
    from detector.runs.shards import Part


def merge(
    parts: Annotated[list[Path], typer.Argument(metavar="PART...", help="The folders of all shards, in any order.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New or empty folder for the results.", show_default=False)],
) -> None:
    """Join the shards of detect, evaluate or propose.

    The result is the folder that one process would have written, byte for byte: detections in the
    order of the list, images, COCO and CSV files, or a store of proposals. Inputs that the shards
    skipped are listed, and the exit code is then 3. Neither the model nor the images are needed,
    and the shards stay as they are.

    [bold]Example:[/bold] detector merge part-* --out found
    """
    from detector.runs.folder import new_run_folder, refuse_occupied
    from detector.runs.shards import read_parts

    refuse_occupied(out)
    found = read_parts(parts)
    # Where some shards were run with --on-error skip and others had no fault to skip, the settings are the former's.
    job = next((part.job for part in found if part.faults), found[0].job)
    proposing = job.verb == "propose"
    faults = [fault for part in found for fault in part.faults]
    for fault in faults:
        log(f"skipped: {fault}")
    with new_run_folder(out, job.verb, None if proposing else job.config, job.seed) as folder:
        if proposing:
            from detector.commands.store_shards import merge_stores

            merge_stores(found, folder)
        else:
            tally = _merge_detections(found, folder)
    if proposing:
        images, boxes = (sum(part.counts.get(name, 0) for part in found) for name in ("images", "boxes"))
        print_line(f"{out}: {images:,} images, {boxes / max(1, images):,.0f} boxes each")
    else:
        tally.show(out, len(faults))
        if job.verb == "evaluate":
            named = {name: job.config.get(name) for name in ("data", "split", "images", "metric")}
            words = [word for name, value in named.items() if value for word in (f"--{name}", str(value))]
            if job.config.get("unknown_classes") == "skip":
                words += ["--unknown-classes", "skip"]
            print_line(f"measure them: {shlex.join(['detector', 'evaluate', *words, '--detections', str(out)])}")
    raise typer.Exit(SKIPPED if faults else 0)


def _merge_detections(parts: Sequence[Part], folder: Path) -> Tally:
    """Write the results of all ``parts`` into ``folder``; nothing of them is held in memory but sums."""
    from detector.commands.detection_files import (
        JSONL_FILE,
        PICTURES,
        PROPOSAL_PICTURES,
    )
    from detector.commands.formats import write_formats
    from detector.commands.tally import Tally
    from detector.runs.shards import copy_results

    with (folder / JSONL_FILE).open("wb") as lines, progress("merging", len(parts), "shard") as advance:
        for part in parts:
            path = part.folder / JSONL_FILE
            if not path.is_file() or path.stat().st_size != part.size:
                raise UserError(f"{path}: not whole; copy the shard again")
            with path.open("rb") as own:
                shutil.copyfileobj(own, lines)
            for name in (PICTURES, PROPOSAL_PICTURES):
                if (part.folder / name).is_dir():
                    copy_results(part.folder / name, folder / name)
            advance()
    tally = Tally.of_earlier(folder / JSONL_FILE)
    job = parts[0].job
    if job.verb == "detect":
        if not tally.pictures:
            raise UserError("nothing was detected in: every input was skipped; the lines of the shards say why")
        settings = job.settings
        names, keys = settings["class_names"], settings["class_keys"]
        faults = [fault for part in parts for fault in part.faults]
        write_formats(folder, job.config.get("formats", []), names, keys, faults)
    return tally
