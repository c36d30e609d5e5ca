"""What ``train --recipe svm`` does: the features of a trained model, an SVM for each class, a model folder."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from detector.commands.console import log_once, progress
from detector.commands.train_jobs import load_pool
from detector.commands.train_run import RECIPE_FILE, TrainRequest, in_numbers, own_device, usual_parts
from detector.data import Dataset, load_dataset
from detector.model.config import MODEL_FILE, ModelConfig, named_folder, read_detector_config
from detector.model.load import read_member
from detector.recipes.build import propose_for
from detector.recipes.export import save_svms
from detector.recipes.region import SvmRecipe
from detector.runs.folder import final_path, new_run_folder, refuse_occupied
from detector.strict_yaml import read_settings, write_settings
from detector.training.features import FEATURES_FILE, compute_features, make_table
from detector.training.processes import Processes, joined_processes
from detector.training.svm import svm_head
from proposals.errors import UserError


def chosen_recipe(request: TrainRequest) -> SvmRecipe:
    """The recipe of the options: of the given file, or the default."""
    if request.minutes is not None or request.steps is not None:
        raise UserError("--minutes and --steps are for the other recipes: SVMs take as long as they take")
    if request.resume == "must":
        raise UserError("--resume is for the other recipes: SVMs begin anew, in minutes")
    recipe = read_settings(SvmRecipe, request.config) if request.config is not None else SvmRecipe()
    if request.config is None and request.init is None:
        raise UserError("--init: name the trained model whose features the SVMs shall stand on")
    changes = {"init": request.init, "train_split": request.split, "seed": request.seed}
    return recipe.model_copy(update={name: value for name, value in changes.items() if value is not None})


@contextmanager
def told_to_stop() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that temporary folders are cleared away."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_svm_training(request: TrainRequest) -> Path:
    """Train as asked and return the folder, a model directory.

    Raises:
        UserError: anything the user can mend. KeyboardInterrupt: also for SIGTERM.
    """
    recipe = chosen_recipe(request)
    with joined_processes(request.device) as processes, told_to_stop():
        out = request.out
        if processes.from_first(request.resume == "auto" and out is not None and (out / MODEL_FILE).exists()):
            assert out is not None
            log_once(f"{out}: finished already")
            return out
        if processes.writes:
            refuse_occupied(out)
        init = named_folder(recipe.init)
        model = read_detector_config(init)
        split = recipe.train_split
        train = load_dataset(request.data, split=split) if split else usual_parts(request.data)[0]
        if tuple(str(key) for key in train.class_keys) != model.class_keys:
            raise UserError(
                f"{init}: knows other classes ({', '.join(model.class_names[:3])}, ...) than the data "
                f"({', '.join(train.class_names[:3])}, ...); train a model on these data first"
            )
        recipe = recipe.model_copy(update={"train_split": train.split})
        log_once(in_numbers(train))
        with ExitStack() as stack:
            folder = Path()
            if processes.writes:
                made = new_run_folder(out, "train", recipe.model_dump(mode="json"), recipe.seed)
                folder = stack.enter_context(made)
            folder = processes.from_first(folder)
            _train(request, recipe, train, model, folder, processes)
        return processes.from_first(final_path(folder))


def _train(
    request: TrainRequest, recipe: SvmRecipe, train: Dataset, model: ModelConfig, folder: Path, processes: Processes
) -> None:
    begun = time.monotonic()
    init, device = named_folder(recipe.init), own_device(request.device, processes)
    members = [read_member(init, member, len(model.class_names)) for member in model.members]
    pool = load_pool(train, log_once)
    if not len(pool.boxes):
        raise UserError(f"{request.data}: the training data hold no usable object")
    with progress("proposing", len(pool.images), "image") as advance:
        found = list(propose_for(model.proposals, pool, request.proposals, processes, advance))
    table = make_table(pool, found, len(train.class_names))
    with progress("computing features", len(pool.images), "image") as advance:
        features = compute_features(members, pool, table, folder, device, advance, processes)
    if not processes.writes:
        return
    heads = []
    for number, (member, own) in enumerate(zip(members, features, strict=True)):
        heads.append(svm_head(table, own, member.head, recipe.seed, log_once))
        log_once(f"network {number + 1} of {len(members)}: {len(train.class_names)} SVMs on {len(table):,} regions")
    del features, own  # before their files go
    for path in folder.glob(f"*{FEATURES_FILE}"):
        path.unlink()
    save_svms(folder, recipe, train, heads, time.monotonic() - begun)
    write_settings(folder / RECIPE_FILE, recipe)
