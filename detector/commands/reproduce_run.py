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

from functools import partial
from pathlib import Path
from typing import Any

from detector.commands.console import progress, say
from detector.commands.device_jobs import run_verbs
from detector.commands.evaluate_data import evaluation_split
from detector.commands.reproduce_train import model_folders, train_experiment
from detector.commands.train_run import TrainRequest
from detector.data import load_dataset
from detector.experiment.measure import Study, rows_of
from detector.experiment.recipe import ExperimentRecipe, MeasurementConfig, read_experiment
from detector.experiment.tables import write_tables
from detector.model.config import MODEL_FILE, named_folder, read_model_config
from detector.model.load import choose_device
from detector.strict_yaml import read_yaml, write_settings
from proposals.errors import UserError

EXPERIMENT_FILE = "experiment.yaml"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


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
    part = None if measure_part is None else read_part(measure_part)
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
        say(f"measuring in {request.jobs} processes; their output is in measure-*.txt in {folder}")
        words = ["reproduce", str(folder / EXPERIMENT_FILE), "--data", str(data), "--out", str(folder)]
        jobs = {n: [*words, "--measure-part", f"{n}/{request.jobs}"] for n in range(1, request.jobs + 1)}
        logs = {n: folder / f"measure-{n}.txt" for n in jobs}
        run_verbs(jobs, [request.device] * request.jobs, logs, "measuring")
    numbers, looked = range(len(dataset))[part or slice(None)], {}
    with progress("measuring", len(numbers), "image") as advance:
        for i in numbers:
            looked[dataset.image_ids[i]] = study.look(dataset.image_ids[i], partial(dataset.read, i))
            advance()
    return write_tables(folder, dataset, rows, looked, settings.bootstrap, settings.seed) if part is None else None


def read_part(text: str) -> slice:
    """Every N-th image from number I on, counted from 1, of ``I/N``.

    Raises:
        UserError: it is not that.
    """
    index, slash, of = text.partition("/")
    if not (slash and index.isdigit() and of.isdigit() and 1 <= int(index) <= int(of)):
        raise UserError(f"--measure-part {text}: say I/N, as 2/4 for the second of four parts")
    return slice(int(index) - 1, None, int(of))


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
