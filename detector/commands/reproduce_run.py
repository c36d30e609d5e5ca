"""What the ``reproduce`` verb does: train each part of an experiment, measure, and write the tables.

The folder of an experiment:
    experiment.yaml        what is done; another file's experiment is refused
    pretraining/           a classifier directory       } each with its recipe in a .yaml beside it
    <ensemble>/            a model directory            }
    multibox/              a MultiBox folder            }
    model/                 the first ensemble with MultiBox, for ``detector detect --model``
    pictures/              a file for each picture measured
    table.md, table.csv, classification.csv
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from detector.classify import Ensemble
from detector.commands.console import progress, say
from detector.commands.train_classifier_run import run_classifier_training
from detector.commands.train_common import Resume
from detector.commands.train_ensemble_run import run_ensemble_training
from detector.commands.train_multibox_run import MultiBoxRequest, run_multibox_training
from detector.commands.train_run import TrainRequest
from detector.config import EnsembleRecipe
from detector.data import Dataset, load_dataset
from detector.evaluation.classification import ClassificationResult, evaluate_classification
from detector.experiment.measure import Sources, Study
from detector.experiment.recipe import DOUBLED, PRETRAINING, ExperimentRecipe, MeasurementConfig, read_experiment
from detector.experiment.table import coverage, evaluate_variants, to_csv, to_markdown
from detector.model import MODEL_FILE, choose_device, join_multibox, read_member, read_model_config
from detector.nets.multibox import MULTIBOX_FILE, build_source, read_multibox_facts
from detector.strict_yaml import dump_yaml, read_yaml
from proposals.errors import UserError
from proposals.merge import MergeConfig
from proposals.resized import ResizedSource
from proposals.selective_search import SelectiveSearch
from proposals.types import ProposalSource

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
    name: str, data: Path, pretraining_data: Path | None, out: Path | None, device: str, checkpoint_minutes: float
) -> Path:
    """Do what is not done yet and return the path of the table; ``pretraining_data``: for the first stage alone.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal; what was finished stays so.
    """
    file = find_experiment(name)
    recipe = read_experiment(file)
    target = choose_device(device)
    folder = out or Path("runs") / file.stem
    _claim(folder, recipe)
    _Runner(recipe, data, pretraining_data or data, folder, device, checkpoint_minutes).train()
    dataset = load_dataset(data, recipe.measurement.split)
    if recipe.measurement.first is not None:
        dataset = dataset.subset(range(min(recipe.measurement.first, len(dataset))))
    members = {
        ensemble: [read_member(folder / ensemble, m) for m in read_model_config(folder / ensemble).members]
        for ensemble in recipe.ensembles
    }
    # Classification first: the study below folds the networks' normalisation, which the ensembles here do as well.
    first = next(iter(recipe.ensembles))
    _classification(recipe.measurement, dataset, members[first], folder, target)
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    settings = recipe.measurement
    sources = _sources(settings, folder / "multibox" if recipe.multibox is not None else None, device)
    study = Study(members, settings.variants, sources, settings.postprocess, pictures, target)
    found, boxes, truths = {}, {}, {}
    with progress("measuring", len(dataset), "picture") as advance:
        for i in range(len(dataset)):
            record = dataset[i]
            found[record.image_id] = study.look(record.image_id, lambda i=i: dataset.read(i))  # type: ignore[misc]
            boxes[record.image_id] = study.proposals(record.image_id)
            truths[record.image_id] = record.ground_truth
            advance()
    results = evaluate_variants(
        settings.variants,
        found,
        truths,
        dataset.class_names,
        blacklist=dataset.blacklisted(),
        bootstrap_samples=settings.bootstrap,
        seed=settings.seed,
    )
    _write(folder / "table.csv", to_csv(results))
    _write(folder / "table.md", to_markdown(results, coverage(boxes, truths), len(dataset)))
    return folder / "table.md"


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
    _write(path, text)


class _Runner:
    """Trains the parts of an experiment, each with the code of its own verb."""

    def __init__(
        self,
        recipe: ExperimentRecipe,
        data: Path,
        pretraining_data: Path,
        folder: Path,
        device: str,
        checkpoint_minutes: float,
    ) -> None:
        self.recipe, self.data, self.pretraining_data, self.folder = recipe, data, pretraining_data, folder
        self.device, self.checkpoint_minutes = device, checkpoint_minutes

    def train(self) -> None:
        recipe = self.recipe
        if recipe.pretraining is not None:
            say("pre-training")
            run_classifier_training(self._request(PRETRAINING, recipe.pretraining))
        for name, ensemble in recipe.ensembles.items():
            say(f"ensemble {name}: {len(ensemble.members)} members")
            run_ensemble_training(self._request(name, self._begun(ensemble)))
        if recipe.multibox is None:
            return
        target = self.folder / "multibox"
        if not (target / MULTIBOX_FILE).is_file():
            say("MultiBox")
            multibox = recipe.multibox.model_copy(update={"init": self._init(recipe.multibox.init)})
            config = self._config("multibox", multibox)
            request = MultiBoxRequest(
                data=self.data,
                config=config,
                out=target,
                model=None,
                resume=Resume.auto,
                init=None,
                priors=None,
                steps=None,
                seed=None,
                device=self.device,
                checkpoint_minutes=self.checkpoint_minutes,
            )
            run_multibox_training(request)
        model = self.folder / "model"
        if not (model / MODEL_FILE).is_file():
            join_multibox(self.folder / next(iter(recipe.ensembles)), target, model)

    def _request(self, name: str, recipe: BaseModel) -> TrainRequest:
        return TrainRequest(
            data=self.pretraining_data if name == PRETRAINING else self.data,
            config=self._config(name, recipe),
            out=self.folder / name,
            resume=Resume.auto,
            proposals=self.folder / "proposals",
            device=self.device,
            checkpoint_minutes=self.checkpoint_minutes,
        )

    def _config(self, name: str, recipe: BaseModel) -> Path:
        path = self.folder / f"{name}.yaml"
        _write(path, dump_yaml(recipe))
        return path

    def _init(self, init: str) -> str:
        return str(self.folder / PRETRAINING) if init == PRETRAINING else init

    def _begun(self, ensemble: EnsembleRecipe) -> EnsembleRecipe:
        """``ensemble`` with the folder of the pre-training in place of its name."""
        base = ensemble.base.model_copy(update={"init": self._init(ensemble.base.init)})
        plans = tuple(
            plan if plan.init is None else plan.model_copy(update={"init": self._init(plan.init)})
            for plan in ensemble.members
        )
        return ensemble.model_copy(update={"base": base, "members": plans})


def _sources(settings: MeasurementConfig, multibox: Path | None, device: str) -> Sources:
    def search(scale: float) -> ProposalSource:
        config = settings.selective_search.model_copy(update={"superpixel_scale": scale})
        found = SelectiveSearch(config, settings.seed)
        return found if settings.search_side is None else ResizedSource(found, settings.search_side)

    learned, merging = None, MergeConfig()
    if multibox is not None:
        member = read_multibox_facts(multibox).multibox
        learned, merging = build_source(multibox, member, choose_device(device)), member.merge
    return Sources(search(settings.selective_search.superpixel_scale), search(DOUBLED), learned, merging)


def _classification(
    settings: MeasurementConfig, dataset: Dataset, members: list[Any], folder: Path, device: Any
) -> None:
    """Top-1 and top-5 on annotated objects for every number of members and crops; what is written is not done again."""
    path = folder / "classification.csv"
    if path.is_file() or not settings.members:
        return
    rows: list[list[object]] = [["members", "crops", "objects", "top1", "top1_low", "top1_high", "top5"]]
    for count in settings.members:
        ensemble = Ensemble(members[:count], device)
        for crops in settings.crops:
            say(f"classification: {count} members, {crops} crops")
            found = _classify(ensemble, dataset, crops, settings)
            ends = found.top1_interval
            low, high = ("", "") if ends is None else (ends.low, ends.high)
            rows.append([count, crops, found.count, found.top1, low, high, found.top5])
    lines = [",".join(str(cell) for cell in row) for row in rows]
    _write(path, "\n".join(lines) + "\n")


def _classify(ensemble: Ensemble, dataset: Dataset, crops: int, settings: MeasurementConfig) -> ClassificationResult:
    def samples() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]]:
        for i in range(len(dataset)):
            truth = dataset[i].ground_truth
            kept = ~(truth.ignore | truth.crowd)
            if kept.any():
                yield dataset.read(i), truth.boxes[kept], truth.labels[kept]

    def log_probabilities(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        with np.errstate(divide="ignore"):
            return np.log(np.asarray(ensemble.predict(image, boxes), np.float64))

    return evaluate_classification(
        log_probabilities,
        samples(),
        dataset.class_names,
        crops=crops,
        whole=True,
        bootstrap_samples=settings.bootstrap,
        seed=settings.seed,
    )


def _write(path: Path, text: str) -> None:
    """Write whole or not at all."""
    temporary = path.with_name(path.name + ".unfinished")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
