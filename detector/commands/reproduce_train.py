"""The trainings of an experiment: pre-training, ensembles, MultiBox, localizer, each with the code of its own verb."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from detector.commands.console import say
from detector.commands.resume import Resume
from detector.commands.train_classifier_run import run_classifier_training
from detector.commands.train_ensemble_run import run_ensemble_training
from detector.commands.train_localizer_run import LocalizerRequest, run_localizer_training
from detector.commands.train_multibox_run import MultiBoxRequest, run_multibox_training
from detector.commands.train_run import TrainRequest
from detector.experiment.recipe import LOCALIZER, MULTIBOX, PRETRAINING, ExperimentRecipe
from detector.model.config import MODEL_FILE, named_folder
from detector.model.save import join_multibox, take_localizer, take_multibox
from detector.nets.localizer import LOCALIZER_FILE
from detector.nets.multibox import MULTIBOX_FILE
from detector.recipes.region import EnsembleRecipe, LocalizerRecipe, MultiBoxRecipe
from detector.strict_yaml import dump_yaml


class Trainer:
    """Trains the parts of an experiment, each with the code of its own verb."""

    def __init__(
        self,
        recipe: ExperimentRecipe,
        data: Path,
        pretraining_data: Path,
        folder: Path,
        device: str,
        checkpoint_minutes: float,
        jobs: int,
    ) -> None:
        self.recipe, self.data, self.pretraining_data, self.folder = recipe, data, pretraining_data, folder
        self.device, self.checkpoint_minutes, self.jobs = device, checkpoint_minutes, jobs

    def train(self) -> None:
        """Train what is not trained yet.

        Raises:
            UserError: anything the user can mend. Interrupted: stopped by a signal; what was finished stays so.
        """
        recipe = self.recipe
        self._take()  # first, for a folder that is not there should be known before hours of training
        if recipe.pretraining is not None:
            say("pre-training")
            run_classifier_training(self._request(PRETRAINING, recipe.pretraining))
        for name, ensemble in recipe.ensembles.items():
            say(f"ensemble {name}: {len(ensemble.members)} members")
            run_ensemble_training(self._request(name, self._begun(ensemble)))
        if recipe.multibox is not None:
            self._train_multibox(recipe.multibox)
        model = self.folder / "model"
        if recipe.has_multibox and not (model / MODEL_FILE).is_file():
            join_multibox(self.folder / next(iter(recipe.ensembles)), self.folder / MULTIBOX, model)
        if recipe.localizer is not None:
            self._train_localizer(recipe.localizer)

    def _take(self) -> None:
        """Make ``multibox/`` and ``localizer/`` of what the recipe takes from model directories."""
        of = self.recipe.multibox_of
        if of is not None and not (self.folder / MULTIBOX / MULTIBOX_FILE).is_file():
            take_multibox(named_folder(of), self.folder / MULTIBOX)
        of = self.recipe.localizer_of
        if of is not None and not (self.folder / LOCALIZER / LOCALIZER_FILE).is_file():
            take_localizer(named_folder(of), self.folder / LOCALIZER)

    def _train_multibox(self, recipe: MultiBoxRecipe) -> None:
        """Make ``multibox/``."""
        target = self.folder / MULTIBOX
        if not (target / MULTIBOX_FILE).is_file():
            say("MultiBox")
            config = self._config(MULTIBOX, recipe.model_copy(update={"init": self._init(recipe.init)}))
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

    def _train_localizer(self, recipe: LocalizerRecipe) -> None:
        """Make ``localizer/``."""
        target = self.folder / LOCALIZER
        if not (target / LOCALIZER_FILE).is_file():
            say("localizer")
            config = self._config(LOCALIZER, recipe.model_copy(update={"init": self._init(recipe.init)}))
            request = LocalizerRequest(
                data=self.data,
                config=config,
                out=target,
                model=None,
                resume=Resume.auto,
                init=None,
                steps=None,
                seed=None,
                device=self.device,
                checkpoint_minutes=self.checkpoint_minutes,
                proposals=self.folder / "proposals",
            )
            run_localizer_training(request)

    def _request(self, name: str, recipe: BaseModel) -> TrainRequest:
        return TrainRequest(
            data=self.pretraining_data if name == PRETRAINING else self.data,
            config=self._config(name, recipe),
            out=self.folder / name,
            resume=Resume.auto,
            proposals=self.folder / "proposals",
            device=self.device,
            checkpoint_minutes=self.checkpoint_minutes,
            jobs=1 if name == PRETRAINING else self.jobs,
        )

    def _config(self, name: str, recipe: BaseModel) -> Path:
        path = self.folder / f"{name}.yaml"
        write_whole(path, dump_yaml(recipe))
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


def write_whole(path: Path, text: str) -> None:
    """Write whole or not at all."""
    temporary = path.with_name(path.name + ".unfinished")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
