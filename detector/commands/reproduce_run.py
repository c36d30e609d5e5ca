"""What the ``reproduce`` verb does: train each part of an experiment, measure, and write the tables.

The folder of an experiment:
    experiment.yaml        what is done; another file's experiment is refused
    pretraining/           a model directory            } each with its recipe in a .yaml beside it
    <ensemble>/            a model directory            }
    multibox/              a MultiBox folder            }
    model/                 the first ensemble with MultiBox, for ``detector detect --model``
    regression/, overlap/  the box regression and the overlaps of its first members
    model-heads/           the model with them
    localizer/             the localizer's folder
    model-localizer/       the model with the heads and with it
    pictures/, named/      a file for each picture measured, of detection and of naming objects
    table.md, table.csv, classification.csv
"""

from __future__ import annotations

from pathlib import Path

from detector.commands.reproduce_measure import Measurement, Part, measure_side_by_side
from detector.commands.reproduce_train import Trainer, write_whole
from detector.experiment.recipe import ExperimentRecipe, read_experiment
from detector.model.load import choose_device
from detector.strict_yaml import dump_yaml, read_yaml
from proposals.errors import UserError

EXPERIMENT_FILE = "experiment.yaml"
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def find_experiment(name: str) -> Path:
    """The file that ``name`` means: itself, or one of ``configs/`` of a checkout.

    Raises:
        UserError: there is none.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    known = CONFIGS / f"{name.replace('-', '_')}.yaml"
    if not known.is_file() or not _is_experiment(known):
        names = sorted(p.stem.replace("_", "-") for p in CONFIGS.glob("*.yaml") if _is_experiment(p))
        raise UserError(f"{name}: no such experiment; known are {', '.join(names) or 'none here'}, or name a file")
    return known


def _is_experiment(path: Path) -> bool:
    return read_yaml(path).get("task") == "experiment"


def run_experiment(
    name: str,
    data: Path,
    pretraining_data: Path | None,
    out: Path | None,
    device: str,
    checkpoint_minutes: float,
    jobs: int = 1,
) -> Path:
    """Do what is not done yet and return the path of the table.

    Args:
        pretraining_data: for the first stage alone. jobs: members trained, and pictures measured, at a time.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal; what was finished stays so.
    """
    file = find_experiment(name)
    recipe = read_experiment(file)
    choose_device(device)
    folder = out or Path("runs") / file.stem
    _claim(folder, recipe)
    Trainer(recipe, data, pretraining_data or data, folder, device, checkpoint_minutes, jobs).train()
    measurement = Measurement(recipe, data, folder, device)
    measurement.join_models()
    if jobs > 1:
        words = [str(file), "--data", str(data), "--out", str(folder), "--device", device]
        measure_side_by_side(words, folder, jobs)
    return measurement.tables()


def run_measure_part(name: str, data: Path, out: Path | None, device: str, part: Part) -> None:
    """Look at one part of the pictures of an experiment whose networks are trained.

    Raises:
        UserError: they are not, or anything else the user can mend.
    """
    file = find_experiment(name)
    recipe = read_experiment(file)
    folder = out or Path("runs") / file.stem
    if not (folder / EXPERIMENT_FILE).is_file():
        raise UserError(f"{folder}: no experiment was begun there; leave --measure-part out")
    _claim(folder, recipe)
    Measurement(recipe, data, folder, device).look(part)


def _claim(folder: Path, recipe: ExperimentRecipe) -> None:
    """Make the experiment's folder, or check that it is this experiment's."""
    path, text = folder / EXPERIMENT_FILE, dump_yaml(recipe)
    if path.is_file():
        if path.read_text(encoding="utf-8") != text:
            raise UserError(f"{folder}: holds another experiment; choose another --out")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already and is no experiment's folder; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
