"""``train --recipe finetune --head``: R-CNN whole, its fine-tuning and then its second stage on the tuned network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from detector.commands.train_common import RECIPE_FILE, Resume, refuse_several_processes
from detector.commands.train_head_run import HeadRequest, run_head_training
from detector.commands.train_run import TrainRequest, run_training
from detector.model.config import read_model_config
from detector.recipes.head import HeadModelFacts, HeadRecipe
from detector.recipes.region import read_recipe
from detector.run_folder import new_run_path
from detector.strict_yaml import dump_yaml
from detector.training.heads import HeadTrainingConfig

TUNED = "-finetuned"
HEAD_FILE = "head.yaml"


def run_finetune_and_head(request: TrainRequest, kind: str, cache: Path) -> Path:
    """Fine-tune in a folder beside --out, train the head in --out, and return that.

    The regions are the same in both stages: the proposals of the recipe, as the fine-tuned model has them.

    Raises:
        UserError: anything the user can mend. Interrupted: stopped by a signal; --resume auto goes on.
    """
    refuse_several_processes("the head")
    out = request.out or new_run_path("train")
    tuned = out.with_name(out.name + TUNED)
    again = Resume.no if request.resume is Resume.no else Resume.auto
    run_training(replace(request, out=tuned, resume=again))
    recipe = second_stage(tuned, out.resolve().name, kind, request.seed or 0)
    (tuned / HEAD_FILE).write_text(dump_yaml(recipe), encoding="utf-8")
    return run_head_training(
        HeadRequest(
            data=request.data,
            config=tuned / HEAD_FILE,
            out=out,
            resume=again,
            proposals=request.proposals,
            cache=cache,
            device=request.device,
            micro_batch=request.micro_batch,
        )
    )


def second_stage(tuned: Path, name: str, kind: str, seed: int) -> HeadRecipe:
    """The head recipe for the fine-tuned model in ``tuned``, on its own part of the data and its own regions.

    It tunes the network once more, for boxes and against hard negatives, which fine-tuning knows nothing of.
    """
    config = read_model_config(tuned)
    return HeadRecipe(
        init=str(tuned),
        train_split=read_recipe(tuned / RECIPE_FILE).train_split,
        proposals=config.proposals,
        head=HeadTrainingConfig.model_validate({"kind": kind}),
        seed=seed,
        model=HeadModelFacts(name=name, description=config.description, licence=config.licence),
    )
