"""What the ``reproduce`` verb does: train each part of an experiment, measure, and write the tables.

The folder of an experiment:
    experiment.yaml           what is done; another one's experiment is refused
    pretraining/              a classifier      } each with its recipe in a .yaml beside it
    ENSEMBLE/                 a model folder    }
    ENSEMBLE-multibox/        the same with a MultiBox of its own
    pictures/                 a file for each image measured
    table.md, table.csv, effects.csv, effects.png, errors.csv
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from detector.commands.console import log, progress
from detector.commands.device_jobs import run_verbs
from detector.commands.evaluate_data import evaluation_split
from detector.commands.train_ensemble_run import run_ensemble_training
from detector.commands.train_run import TrainRequest, run_training
from detector.data import load_dataset
from detector.experiment.measure import Study, rows_of
from detector.experiment.recipe import MULTIBOX, PRETRAINING, ExperimentRecipe, MeasurementConfig, read_experiment
from detector.experiment.tables import write_tables
from detector.model.config import MODEL_FILE, named_folder, read_model_config
from detector.model.load import choose_device
from detector.recipes.region import MemberPlan, OneRecipe, SharedRecipe, TrainRecipe
from detector.runs.shards import Shard
from detector.strict_yaml import read_yaml, write_settings
from proposals.errors import UserError

EXPERIMENT_FILE = "experiment.yaml"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
Begins = TypeVar("Begins", TrainRecipe, SharedRecipe, OneRecipe, MemberPlan)


def find_experiment(name: str) -> tuple[str, ExperimentRecipe]:
    """What ``name`` means, and what its folder is called: a file, one of ``configs/`` of a checkout, or a model folder.

    A model folder is measured as it is.

    Raises:
        UserError: there is none, or a fault in the file.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path.stem, read_experiment(path)
    files = [file for file in sorted(CONFIGS.glob("*.yaml")) if read_yaml(file).get("task") == "experiment"]
    known = {file.stem.replace("_", "-"): file for file in files}
    if name in known:
        return known[name].stem, read_experiment(known[name])
    if (named_folder(name) / MODEL_FILE).is_file():
        return f"reproduce-{path.resolve().name}", ExperimentRecipe(models={"model": name})
    names = ", ".join(sorted(known)) or "none here"
    raise UserError(f"{name}: no such experiment or model folder; known are {names}, or name a file")


def run_experiment(
    name: str, request: TrainRequest, pretraining_data: Path | None, measure_part: str | None, measured: dict[str, Any]
) -> Path | None:
    """Do what is not done yet and return the path of the table.

    With ``measure_part`` it only looks at that part of the images; ``measured`` are changes of ``measurement``.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal; what was finished stays so.
    """
    part = None if measure_part is None else Shard.parse(measure_part, "--measure-part")
    stem, recipe = find_experiment(name)
    settings = recipe.measurement.model_copy(update=measured)
    folder, data, target = request.out or Path("runs") / stem, request.data, choose_device(request.device)
    _claim(folder, recipe.model_copy(update={"measurement": settings}), begun=part is not None)
    if part is None:
        train_experiment(recipe, request, pretraining_data or data, folder)
    dataset = load_dataset(data, evaluation_split(data, settings.split or None))
    dataset = dataset.subset(range(min(settings.first or len(dataset), len(dataset))))
    models = [(key, home, read_model_config(home)) for key, home in model_folders(recipe, folder).items()]
    rows = rows_of(models, settings.variants, settings.common_change)
    (folder / "pictures").mkdir(exist_ok=True)
    study = Study(rows, dataset.class_names, folder / "pictures", target, settings.seed, settings.precision)
    if part is None and request.jobs > 1:
        log(f"measuring in {request.jobs} processes; their output is in measure-*.txt in {folder}")
        words = ["reproduce", str(folder / EXPERIMENT_FILE), "--data", str(data), "--out", str(folder)]
        jobs = {n: [*words, "--measure-part", f"{n}/{request.jobs}"] for n in range(1, request.jobs + 1)}
        logs = {n: folder / f"measure-{n}.txt" for n in jobs}
        run_verbs(jobs, [request.device] * request.jobs, logs, "measuring")
    # Every N-th image: a part has images of all sizes and kinds.
    numbers, looked = range(len(dataset))[slice(part.index - 1, None, part.count) if part else slice(None)], {}
    with progress("measuring", len(numbers), "image") as advance:
        for i in numbers:
            looked[dataset.image_ids[i]] = study.look(dataset.image_ids[i], partial(dataset.read, i))
            advance()
    return write_tables(folder, dataset, rows, looked, settings.bootstrap, settings.seed) if part is None else None


def _claim(folder: Path, recipe: ExperimentRecipe, begun: bool) -> None:
    """Make the experiment's folder, or check that it is this experiment's; what is measured may change."""
    path = folder / EXPERIMENT_FILE
    if path.is_file():
        if _trained(read_experiment(path)) != _trained(recipe):
            raise UserError(f"{folder}: holds another experiment; choose another --out")
    elif begun:
        raise UserError(f"{folder}: no experiment was begun there; leave --measure-part out")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already and is no experiment's folder; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    if not begun:
        write_settings(path, recipe)


def _trained(recipe: ExperimentRecipe) -> ExperimentRecipe:
    """The part of ``recipe`` that decides what is trained; what is measured may change."""
    return recipe.model_copy(update={"measurement": MeasurementConfig()})


# --- the trainings, each as ``train`` does it


def model_folders(recipe: ExperimentRecipe, folder: Path) -> dict[str, Path]:
    """The folders of the models that the experiment in ``folder`` measures, by name."""
    added = own_multibox(recipe)
    trained = {name: folder / (f"{name}-{MULTIBOX}" if name in added else name) for name in recipe.ensembles}
    return {**trained, **{name: named_folder(path) for name, path in recipe.models.items()}}


def own_multibox(recipe: ExperimentRecipe) -> list[str]:
    """The ensembles that get a MultiBox of the experiment's recipe: those whose own training has none."""
    if recipe.multibox is None:
        return []
    bases = {name: ensemble.base.training for name, ensemble in recipe.ensembles.items()}
    return [name for name, training in bases.items() if getattr(training, "multibox", None) is None]


def train_experiment(recipe: ExperimentRecipe, request: TrainRequest, pretraining_data: Path, folder: Path) -> None:
    """Train the parts of an experiment that are not trained yet.

    Args:
        request: the data and how to run; each part has its own recipe and folder.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal; what was finished stays so.
    """

    def asked(name: str, part: BaseModel) -> TrainRequest:
        write_settings(folder / f"{name}.yaml", part)
        return replace(request, config=folder / f"{name}.yaml", out=folder / name, proposals=folder / "proposals")

    def begun(part: Begins) -> Begins:
        """``part`` with the folder of the pre-training in place of its name."""
        init = str(folder / PRETRAINING) if part.init == PRETRAINING else part.init
        return part.model_copy(update={"init": init})

    if recipe.pretraining is not None:
        log("pre-training")
        run_training(replace(asked(PRETRAINING, recipe.pretraining), data=pretraining_data, jobs=1))
    for name, ensemble in recipe.ensembles.items():
        log(f"ensemble {name}: {len(ensemble.members)} members")
        members = tuple(begun(plan) for plan in ensemble.members)
        run_ensemble_training(
            asked(name, ensemble.model_copy(update={"base": begun(ensemble.base), "members": members}))
        )
    for name in own_multibox(recipe):
        assert recipe.multibox is not None
        log(f"MultiBox of {name}")
        init = {"init": str(folder / name)}
        run_training(replace(asked(f"{name}-{MULTIBOX}", recipe.multibox.model_copy(update=init)), jobs=1))
