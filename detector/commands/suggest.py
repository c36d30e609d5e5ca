"""``detector suggest``: which images to label next, with pre-labels to begin from."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from detector.commands.console import SKIPPED, Faults, print_line
from detector.commands.options import Device, ResumeWord, may_go_on, results_option
from proposals.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detector.commands.detection_files import SavedDetections
    from detector.types import Detections

SUGGESTIONS_FILE, IMAGES = "suggestions.csv", "images"
LEAST_DOUBTED = 0.05
"""Detections below this score are background that an image has more of the more proposals it has."""


def suggest(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Images, folders, patterns or lists of them; labelled images are left out."
        ),
    ],
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model directory.", show_default=False)],
    count: Annotated[int, typer.Option(min=1, help="Number of images to suggest.")] = 20,
    pre_labels: Annotated[
        Literal["voc", "yolo"], typer.Option("--format", help="Pre-labels: VOC XML, or YOLO text with classes.txt.")
    ] = "voc",
    score_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Minimum score of a pre-label.", show_default="the model's own")
    ] = None,
    device: Device = "auto",
    out: Annotated[Path | None, results_option("suggest")] = None,
    resume: ResumeWord = None,
) -> None:
    """Suggest which images to label next: those of which the model is least sure.

    [bold]images/[/bold] in the new folder has copies of them with what the model finds as pre-labels beside them, for
    a labelling tool; [bold]suggestions.csv[/bold] ranks all images that have no labels yet. Train on the corrected
    images together with those that were labelled before.

    [bold]Example:[/bold] detector suggest photos/ --model my-model --out next
    """
    from detector.commands.detection_files import JSONL_FILE, read_detections
    from detector.commands.detection_run import detect_in_images, job_of, pace_of
    from detector.commands.inputs import PictureInput, find_inputs
    from detector.data.finder import is_labelled
    from detector.model.config import read_detector_config
    from detector.model.load import load_model
    from detector.runs.folder import final_path, new_run_folder

    going_on = may_go_on(resume, out)
    faults = Faults(skip=True)
    named = [source for source in find_inputs(inputs, faults) if isinstance(source, PictureInput) and not source.data]
    images = [source for source in named if not is_labelled(Path(source.path))]
    if not images:
        raise UserError(f"nothing to suggest: none of {len(named)} images is without labels")
    if score_threshold is None:
        score_threshold = read_detector_config(model).postprocess.score_threshold
    pace = pace_of(len(images) > 1, device)
    least = min(LEAST_DOUBTED, score_threshold)
    network = load_model(model, device=device, score_threshold=least, threads=None if pace == "alone" else 1)
    config: dict[str, Any] = {
        "inputs": inputs,
        "model": model,
        "device": device,
        "postprocess": network.config,
        "count": count,
        "format": pre_labels,
        "score_threshold": score_threshold,
    }
    job = job_of("suggest", images, config, model, network, device=device, seed=0, shard=None)
    with new_run_folder(out, "suggest", config, 0, keep_unfinished=True, resume=going_on) as folder:
        for _ in detect_in_images(folder, job, images, network, faults, pace=pace, what="detecting"):
            pass
        found = {saved.path: saved for saved in read_detections(folder / JSONL_FILE)}
        doubts = {path: uncertainty(saved.detections) for path, saved in found.items()}
        ranked = sorted(found, key=lambda path: -doubts[path])
        with (folder / SUGGESTIONS_FILE).open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "uncertainty"))
            writer.writerows((path, f"{doubts[path]:.3f}") for path in ranked)
        chosen = [found[path] for path in ranked[:count]]
        _write_images(folder / IMAGES, chosen, network.class_names, pre_labels, score_threshold)
    where = out or final_path(folder)
    print_line(
        f"{len(found)} images without labels ranked in {where / SUGGESTIONS_FILE}; {len(named) - len(images)} have some"
    )
    print_line(f"label these {len(chosen)} next, from their pre-labels: {where / IMAGES}")
    raise typer.Exit(SKIPPED if faults.count else 0)


def _write_images(
    folder: Path, chosen: Sequence[SavedDetections], class_names: Sequence[str], pre_labels: str, threshold: float
) -> None:
    """Copies of the ``chosen`` images, a file of pre-labels beside each, and the ``classes.txt`` of both formats."""
    from detector.commands.formats import voc_text, yolo_text
    from detector.shown import path_part

    folder.mkdir(exist_ok=True)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")
    for saved in chosen:
        source = Path(saved.path)
        stem = path_part(saved.image_id)
        picture = folder / f"{stem}{source.suffix}"
        try:
            shutil.copyfile(source, picture)
        except OSError as error:
            raise UserError(f"{source} cannot be copied: {error.strerror or error}") from None
        found = saved.detections.select(saved.detections.scores >= threshold)
        if pre_labels == "voc":
            picture.with_name(f"{stem}.xml").write_bytes(voc_text(found, class_names, picture.name))
        else:
            picture.with_name(f"{stem}.txt").write_text(yolo_text(found, confidence=False), encoding="utf-8")


def uncertainty(found: Detections) -> float:
    """How unsure a detector is of an image, which decides what is labelled next (active learning).

    The entropies, in bits, of the scores of ``found``, summed: each is a yes or no, of which 0.5 knows least.
    Detections should go down to a score of ``LEAST_DOUBTED``; lower ones do not count. Entropy of binary outputs: E.
    Haussmann et al., *Scalable active learning for object detection*, IV 2020. The sum over detections, which did best
    among sum, mean and maximum: C.-A. Brust et al., *Active learning for deep object detection*, VISAPP 2019.
    """
    p = found.scores[found.scores >= LEAST_DOUBTED].astype(float).clip(1e-9, 1 - 1e-9).tolist()
    return -math.fsum(each * math.log2(each) + (1 - each) * math.log2(1 - each) for each in p)
