"""Training on shared maps: what batches show, and that a small network learns."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command_line import run
from numpy.typing import NDArray
from red_squares import red_squares
from shared_training import pool_of, shared_settings, write_records

from detector.commands.train_jobs import SharedJob
from detector.crop import CropConfig
from detector.detection.ensemble import Ensemble, ImageView
from detector.detection.member import Member
from detector.detection.multibox_source import MultiBoxSource
from detector.model.config import ProposalConfig, read_model_config
from detector.model.load import load_model
from detector.model.save import save_model
from detector.nets.googlenet import FIRST_LAYERS
from detector.nets.region_head import HeadLogits
from detector.nets.region_net import RegionNet, SharedMaps
from detector.nets.weights import Normalization
from detector.recipes.build import check_beginning, load_splits, propose_for, shared_trainer
from detector.recipes.initialization import initialise, trained_head
from detector.recipes.region import SharedRecipe
from detector.training.pool import ImagePool
from detector.training.processes import ALONE, Machine
from detector.training.region_batch import AugmentConfig, RegionBatch, Shown
from detector.training.region_loss import DELTA_SCALE
from detector.training.region_settings import SharedTrainingConfig
from detector.training.region_trainer import Progress, RegionTrainer
from detector.training.shared_batches import ProposedRegions, SharedBatches, canvas_size, image_odds
from proposals.boxes import area, decode, intersection, iou
from proposals.errors import UserError
from proposals.multibox import MultiBoxConfig, MultiBoxOutput

CPU = torch.device("cpu")
MULTIBOX = MultiBoxConfig(channels=16, count=3)
PLAIN = AugmentConfig(brightness=0, contrast=0, saturation=0, hue_shift=0, random_interpolation=False)


def make_pool(count: int = 12, classes: int = 2) -> tuple[ImagePool, list[NDArray[np.float32]]]:
    """Dark noise with a red or a blue square in the left or the right half; every third image is upright."""
    rng = np.random.default_rng(0)
    images, boxes, proposals = [], [], []
    for i in range(count):
        height, width = (64, 48) if i % 3 == 2 else (48, 64)
        image = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        side = int(rng.integers(14, 24))
        x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        image[y : y + side, x : x + side, 2 * (i % classes)] = 250
        images.append(image)
        boxes.append([[x, y, x + side, y + side]])
        corner = rng.uniform(0, 30, (30, 2))
        proposals.append(np.concatenate([corner, corner + rng.uniform(8, 34, (30, 2))], axis=1).astype(np.float32))
    return pool_of(images, boxes, [[i % classes] for i in range(count)]), proposals


def config(**changes: Any) -> SharedTrainingConfig:
    maps = SharedMaps(image_side=64, levels=2, region_side=32)
    return shared_settings(**{"maps": maps, "steps": 4, "statistics_batches": 2, "augment": PLAIN, **changes})


def make_trainer(folder: Path, log: list[Progress] | None = None, **changes: Any) -> RegionTrainer[RegionNet]:
    pool, proposals = make_pool()
    settings = config(**changes)
    folder.mkdir(parents=True, exist_ok=True)
    report = (lambda entry: None) if log is None else log.append
    batches = SharedBatches(pool, proposals, 2, settings)
    return shared_trainer(settings, batches, folder, machine=Machine(CPU), report=report, log_every=2)


def test_no_background_is_taken_from_ignored_objects() -> None:
    pool, proposals = make_pool()
    apart = [np.array([[20, 0, width, height]], np.float32) for height, width in pool.sizes]
    whole = config(zoom=(1.0, 1.0))
    batch = SharedBatches(replace(pool, ignored=apart), proposals, 2, whole).batch(0)
    assert batch.objects is not None
    unsure = batch.objects[batch.objects[:, 5] == 0].numpy()
    np.testing.assert_array_equal(unsure[:, 0], range(len(batch.images)))

    def hidden(batch: RegionBatch) -> list[bool]:
        assert batch.rois is not None
        return [
            bool(intersection(roi[None, 1:], unsure[int(roi[0]), None, 1:5]) >= 0.5 * area(roi[None, 1:]))
            for roi, overlap in zip(batch.rois.numpy(), batch.overlaps, strict=True)
            if overlap < 0.5
        ]

    assert any(hidden(SharedBatches(pool, proposals, 2, whole).batch(0)))
    assert not any(hidden(batch))


@pytest.mark.parametrize("step", range(6))
def test_regions_that_show_an_object_lie_on_it(step: int) -> None:
    """Mirrored, enlarged, cut or not: what is labelled red is red, and deltas lead to the square's own bounds."""
    pool, proposals = make_pool()
    batch = SharedBatches(pool, proposals, 2, config()).batch(step)
    assert len(batch.images) == 4
    assert batch.images.shape[2:] in {(64, 64), (48, 64), (64, 48)} or max(batch.images.shape[2:]) == 64
    shown = 0
    for roi, label, delta, overlap in zip(batch.rois, batch.labels, batch.deltas, batch.overlaps, strict=True):
        if label == 2:
            assert overlap < 0.5
            assert not delta.any()
            continue
        shown += 1
        image = batch.images[int(roi[0])]
        box = decode(roi[None, 1:].numpy(), delta[None].numpy())
        x1, y1, x2, y2 = box.round().astype(int)[0].tolist()
        assert float(overlap) == pytest.approx(float(iou(roi[None, 1:].numpy(), box)[0, 0]), abs=1e-3)
        inside = image[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean((1, 2))
        other = image[2 * int(label)].clone()
        other[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = 0
        assert inside[2 * int(label)] > 200
        assert float((other > 200).float().mean()) < 0.01  # and nothing of it is left outside the box
    assert shown > 4


def test_an_object_that_is_cut_off_is_neither_object_nor_background() -> None:
    pool, proposals = make_pool()
    batches = SharedBatches(pool, proposals, 2, config(zoom=(3.0, 3.0), visible=1.0))
    cut = 0
    for step in range(8):
        batch = batches.batch(step)
        for number, image in enumerate(batch.images):
            mine = batch.rois[:, 0] == number
            rows, columns = (image[[0, 2]] > 200).any(0).nonzero(as_tuple=True)
            if (batch.labels[mine] < 2).any() or not len(rows):
                continue
            left = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])[None].float()
            cut += 1
            assert iou(batch.rois[mine, 1:].numpy(), left.numpy()).max() < 0.35
    assert cut > 3


def test_rare_classes_are_shown_more_often() -> None:
    pool, _ = make_pool(9, classes=1)
    pool.labels[8] = 1
    alike = image_odds(pool, 2, 0.0)
    np.testing.assert_allclose(alike, 1 / 9)
    root = image_odds(pool, 2, 0.5)
    assert root[8] / root[0] == pytest.approx(8**0.5)
    assert image_odds(pool, 2, 1.0)[8] == pytest.approx(0.5)
    empty, _ = make_pool(3)
    none = pool_of(empty.images, [[]] * 3, [[]] * 3)
    np.testing.assert_allclose(image_odds(none, 2, 0.5), 1 / 3)


def test_a_canvas_has_the_shape_of_its_images() -> None:
    maps = SharedMaps(image_side=320)
    assert canvas_size(np.array([[375, 500], [375, 500], [500, 500]], np.float32), maps) == (256, 320)
    assert canvas_size(np.array([[500, 333]], np.float32), maps) == (320, 224)


def test_images_without_objects_or_proposals() -> None:
    pool, proposals = make_pool(3)
    bare = pool_of(pool.images, [[]] * 3, [[]] * 3)
    batch = SharedBatches(bare, proposals, 2, config()).batch(0)
    assert set(batch.labels.tolist()) == {2}
    assert not batch.overlaps.any()
    nothing = SharedBatches(bare, [p[:0] for p in proposals], 2, config()).batch(0)
    assert nothing.rois.shape == (0, 5)
    with pytest.raises(ValueError, match="3 images, proposals of 2"):
        SharedBatches(bare, proposals[:2], 2, config())


@pytest.mark.slow
def test_it_learns_what_and_where(tmp_path: Path) -> None:
    log: list[Progress] = []
    trainer = make_trainer(tmp_path, log, steps=240, batch_size=64, multibox=MULTIBOX)
    net = trainer.run()
    assert covered(net) > 0.9
    assert log[-1].loss < 0.6 * log[0].loss
    overlaps, predicted, named = [], [], []  # of regions before and after they are moved; as predicted; named right
    for step in range(1000, 1010):
        batch = trainer.batches.batch(step)
        with torch.inference_mode():
            found = trainer.output(net, batch)
        assert isinstance(found, HeadLogits)
        assert found.deltas is not None
        assert found.overlap is not None
        assert batch.rois is not None
        predicted.append((found.overlap.sigmoid().numpy(), batch.overlaps.numpy()))
        objects = batch.labels < 2
        named.append((found.classes.argmax(dim=1) == batch.labels)[objects].numpy())
        shows = (batch.labels < 2) & (batch.overlaps < 0.8)
        boxes = batch.rois[shows, 1:].numpy()
        moved = decode(boxes, (found.deltas[shows, 0] * torch.tensor(DELTA_SCALE)).numpy())
        truth = decode(boxes, batch.deltas[shows].numpy())
        overlaps.append([np.diag(iou(some, truth)) for some in (boxes, moved)])
    before, after = (np.concatenate(parts).mean() for parts in zip(*overlaps, strict=True))
    assert after > before + 0.03
    assert np.concatenate(named).mean() > 0.8
    guess, real = (np.concatenate(parts) for parts in zip(*predicted, strict=True))
    assert np.corrcoef(guess, real)[0, 1] > 0.6


def test_the_models_deltas_are_plain(tmp_path: Path) -> None:
    net = make_trainer(tmp_path).net
    state = trained_head(net).state_dict()
    assert net.head.regress is not None
    unit = torch.tensor(DELTA_SCALE)
    assert torch.equal(state["regress.weight"], net.head.regress.weight.detach() * unit[:, None])
    assert torch.equal(state["regress.bias"], net.head.regress.bias.detach() * unit)
    assert torch.equal(state["classify.weight"], net.head.classify.weight)


def test_parts_of_a_batch_are_the_batch(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.net.eval()  # batch normalisation would see other batches
    batch = trainer.batches.batch(0)
    parts = batch.parts(3)
    assert [name for part in parts for name in part.describe()] == batch.describe()
    whole = trainer.outcome(batch)
    each = [trainer.outcome(part) for part in parts]
    assert sum(o.examples for o in each) == whole.examples == len(batch.labels)
    mean = sum(float(o.loss.detach()) * o.examples for o in each) / whole.examples
    assert mean == pytest.approx(float(whole.loss.detach()), rel=1e-5)


@pytest.mark.parametrize(("planned", "steps"), [(1e-6, 3), (1e6, 16), (None, 8)])
def test_a_run_that_is_not_in_time_is_planned_anew(tmp_path: Path, planned: float | None, steps: int) -> None:
    """After the second step, where the first line is logged; the rate has fallen to the end all the same."""
    log: list[Progress] = []
    trainer = make_trainer(tmp_path, log, steps=8, planned_seconds=planned)
    trainer.run()
    assert trainer.step == steps
    assert [entry.step for entry in log] == ([2, 3] if steps == 3 else list(range(2, steps + 1, 2)))
    assert log[-1].rate < 0.6 * log[0].rate
    again = make_trainer(tmp_path, steps=8, planned_seconds=planned)
    again.resume()
    assert again.steps == again.step == steps
    assert torch.equal(again.run().trunk.conv1.conv.weight, trainer.averaged_net().trunk.conv1.conv.weight)


@pytest.mark.parametrize(
    ("step", "step_seconds", "steps"),
    [(2, 1.0, 8), (2, 0.95, 8), (2, 0.5, 14), (2, 0.1, 16), (4, 0.5, 8), (4, 1.05, 8), (4, 2.0, 6), (7, 9.0, 8)],
)
def test_steps_are_as_many_as_the_time_has(tmp_path: Path, step: int, step_seconds: float, steps: int) -> None:
    """Of 8 in 8 seconds, a second each so far: none for a tenth, more in the first half alone and at most 16."""
    trainer = make_trainer(tmp_path, steps=8, planned_seconds=8.0)
    trainer.step, trainer.seconds = step, float(step)
    trainer._keep_to_time(step_seconds)
    assert trainer.steps == steps


def test_statistics_are_those_of_many_batches(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    assert trainer.batches.steps_per_epoch == 12 / 4
    net = trainer.averaged_net()
    assert isinstance(net, RegionNet)
    assert not net.training
    norm = net.trunk.conv1.bn
    assert int(norm.num_batches_tracked) == 2 * 2  # two batches, two levels
    assert float(norm.running_mean.abs().max()) > 0


def test_a_picture_that_becomes_unreadable_gives_way_to_another(tmp_path: Path) -> None:
    records = write_records(tmp_path, 4)
    pool = ImagePool.load(records, memory=0)
    records[1].path.write_bytes(b"no picture any more")
    advanced: list[int] = []
    proposals = list(propose_for(ProposalConfig(), pool, tmp_path / "store", ALONE, lambda: advanced.append(1)))
    assert len(advanced) == len(proposals) == 4
    assert not len(proposals[1])
    batches = SharedBatches(pool, proposals, 2, config())
    shown = {region.image for step in range(8) for region in batches.batch(step).shown}
    assert shown == {"p0", "p2", "p3"}
    assert set(batches.unreadable) == {"p1"}
    for record in records:
        record.path.write_bytes(b"none")
    with pytest.raises(UserError):
        batches.batch(0)


def test_held_out_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    data = red_squares(tmp_path / "data")
    recipe = SharedRecipe(init="random", training=config())
    train, val = load_splits(data, "train", "val")
    assert val is not None
    said: list[str] = []
    val[0].path.write_bytes(val[0].path.read_bytes()[:200])
    job = SharedJob(recipe, train, val, tmp_path / "store", Machine(CPU, log=said.append))
    job.load()
    job.trainer(tmp_path, lambda entry: None)
    assert job.measure is not None
    assert list(job.measure.data.image_ids) == list(val.image_ids[1:])
    assert any(str(val[0].path) in line for line in said)


def test_frozen_layers_stay_as_they_are(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, frozen=True)
    before = {name: tensor.clone() for name, tensor in trainer.net.state_dict().items()}
    after = trainer.run().state_dict()
    same = {name.split(".")[1] for name, tensor in after.items() if torch.equal(tensor, before[name])}
    assert same == set(FIRST_LAYERS)
    moved = {name.split(".")[1] for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert not moved & set(FIRST_LAYERS)
    assert {"inception4a", "inception5b", "classify", "regress", "judge"} <= moved


@pytest.mark.parametrize("kept", [{"frozen": True}, {"only_multibox": True, "multibox": MULTIBOX}])
def test_random_layers_are_not_kept(kept: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"training\.{next(iter(kept))} keeps layers of init"):
        check_beginning(SharedRecipe(init="random", training=config(**kept)))


@pytest.mark.slow
def test_from_the_command_line_to_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = red_squares(tmp_path / "data"), tmp_path / "model"
    recipe = {
        "task": "shared",
        "init": "random",
        "training": config(steps=40, batch_size=128, regions=32).model_dump(mode="json"),
        "val_images": 4,
        "half": False,
        "model": {
            "licence": "MIT",
            "proposals": {"search_side": None, "max_proposals": 60},
            "postprocess": {"overlap_power": 1.0},
        },
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    more = ("--proposals", tmp_path / "store")
    assert run("train", data, "--config", file, "--out", out, *more) == 0
    names = {path.name for path in out.iterdir()}
    assert names >= {"model.yaml", "member-0.safetensors", "log.csv", "curves.png", "crops.png"}
    assert "checkpoint.pt" not in names
    model = read_model_config(out)
    assert model.members[0].shared == config().maps
    assert model.members[0].ranges
    found = load_model(out)(np.full((40, 48, 3), 120, np.uint8))
    assert found.image_size == (40, 48)
    words = ("--metric", "voc07", "--split", "val", "--score-threshold", 0.01, "--bootstrap", 0)
    assert run("evaluate", "--data", data, "--model", out, *words, "--out", tmp_path / "measured") == 0
    measured = json.loads((tmp_path / "measured" / "evaluation.json").read_text())["result"]["mean_ap"]
    assert model.scores["val_mean_ap"] == pytest.approx(measured, abs=1e-4)
    capsys.readouterr()
    assert run("train", data, "--config", file, "--out", out, "--resume", "auto", *more) == 0
    assert "finished already" in capsys.readouterr().err


def test_a_training_goes_on_where_a_saved_head_stopped(tmp_path: Path) -> None:
    """The head of a model, given as first weights, gives the outputs that the trained net gave; not for others."""
    trained = make_trainer(tmp_path / "a").run()
    keys, settings = ("a", "b"), config()
    given = settings.net, trained.trunk.state_dict(), CropConfig(size=32, context_pad=2), settings.normalization
    about = {"name": "m", "licence": "MIT", "class_names": keys, "class_keys": keys}
    save_model(tmp_path / "m", [given], heads=[trained_head(trained)], shared=settings.maps, half=False, **about)
    again = make_trainer(tmp_path / "b").new_net()
    before = {name: tensor.clone() for name, tensor in again.head.state_dict().items()}
    initialise(again, str(tmp_path / "m"), ("a", "c"))
    for name, tensor in again.head.state_dict().items():
        assert torch.equal(tensor, before[name]), name  # the head of other classes is left out
    for name, tensor in again.trunk.state_dict().items():
        assert torch.equal(tensor, trained.trunk.state_dict()[name]), name
    initialise(again, str(tmp_path / "m"), keys)
    for name, tensor in again.head.state_dict().items():
        torch.testing.assert_close(tensor, trained.head.state_dict()[name], msg=name)


def test_regions_learn_the_same_with_and_without_multibox(tmp_path: Path) -> None:
    """MultiBox learns from the maps, and the maps do not learn from it."""
    plain = make_trainer(tmp_path / "plain").run()
    both = make_trainer(tmp_path / "both", multibox=MULTIBOX, proposed=0).run()
    first, second = plain.state_dict(), both.state_dict()
    assert (
        {name for name in second if name not in first}
        == {name for name in second if name.startswith("multibox.")}
        != set()
    )
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-4, atol=1e-5)


def test_where_multibox_learns_alone_nothing_else_changes(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, multibox=MULTIBOX, only_multibox=True)
    before = {name: tensor.clone() for name, tensor in trainer.net.state_dict().items()}
    net = trainer.run()
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if name.startswith("multibox.")}


def covered(net: RegionNet) -> float:
    """Share of the objects that one of MultiBox's best three boxes overlaps by half."""
    assert net.multibox is not None
    assert net.config is not None
    pool, _ = make_pool()
    trunk = copy.deepcopy(net.trunk).eval()
    ensemble = Ensemble(
        [Member(trunk, CropConfig(size=32, context_pad=2), Normalization(), trained_head(net), net.config)], CPU
    )
    source = MultiBoxSource(copy.deepcopy(net.multibox), ensemble, net.config)
    hits = [
        iou(source.propose(ImageView(image)).boxes[:3], pool.boxes[number : number + 1]).max() >= 0.5
        for number, image in enumerate(pool.images)
    ]
    return float(np.mean(hits))


def test_objects_of_a_batch_go_with_their_images() -> None:
    pool, proposals = make_pool()
    batch = SharedBatches(pool, proposals, 2, config(zoom=(1.0, 2.0))).batch(0)
    assert batch.objects is not None
    assert set(batch.objects[:, 5].tolist()) <= {0.0, 1.0}
    parts = batch.parts(2)
    for part, first in zip(parts, (0, len(parts[0].images)), strict=True):
        assert part.objects is not None
        own = batch.objects[(batch.objects[:, 0] >= first) & (batch.objects[:, 0] < first + len(part.images))]
        assert torch.equal(part.objects[:, 1:], own[:, 1:])
        assert torch.equal(part.objects[:, 0], own[:, 0] - first)
    # What is to be found lies where the square is.
    for number, x1, y1, x2, y2, _, label in batch.objects[batch.objects[:, 5] == 1].round().int().tolist():
        inside = batch.images[number][:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean((1, 2))
        assert float(inside[2 * label]) > 200


def test_only_multibox_needs_multibox() -> None:
    with pytest.raises(ValueError, match="only_multibox needs multibox"):
        config(only_multibox=True)


# --- MultiBox's own boxes among the regions ----------


MAPS = SharedMaps(image_side=64, levels=2, region_side=24)
OBJECTS = torch.tensor([[0, 10, 10, 30, 30, 1, 1], [1, 40, 20, 60, 40, 0, 0]], dtype=torch.float32)
# Near the object, on background, on what is cut off in the second image, too small to be pooled.
PRIORS = torch.tensor([[11, 10, 31, 31], [2, 40, 22, 60], [41, 20, 61, 41], [50, 50, 52, 52]], dtype=torch.float32)


def made_up_batch(regions: int = 6) -> RegionBatch:
    rois = torch.tensor([[image, 0, 0, 8 + row, 8] for image in range(2) for row in range(regions)]).float()
    count = len(rois)
    return RegionBatch(
        torch.zeros(2, 3, 64, 64),
        torch.full((count,), 2),
        [Shown("x", np.zeros(4, np.float32))] * count,
        deltas=torch.ones(count, 4),
        overlaps=torch.linspace(0, 0.4, count),
        rois=rois,
        level=torch.zeros(count, dtype=torch.int64),
        objects=OBJECTS,
    )


def chosen(count: int, regions: int = 6, *unsure: list[float]) -> Any:
    """The batch with MultiBox's regions, after more objects that are ``unsure``."""
    objects = torch.cat([OBJECTS, torch.tensor(unsure).view(-1, 7)])
    choose = ProposedRegions(made_up_batch(regions)._replace(objects=objects), count, 2, MAPS)
    rois, level = choose(MultiBoxOutput(torch.zeros(2, 4, 4), torch.tensor([[2.0, 1.0, 3.0, 4.0]] * 2), PRIORS))
    assert torch.equal(rois, choose.batch.rois)
    assert torch.equal(level, choose.batch.level)
    return choose.batch


def test_a_box_within_an_ignored_object_is_no_background() -> None:
    rois = chosen(4, 6, [0, 0, 0, 64, 64, 0, 0]).rois
    first = rois[rois[:, 0] == 0, 1:]
    assert torch.equal(first[-1], PRIORS[0])  # which lies on the true object
    assert not any(torch.equal(box, PRIORS[1]) for box in first)


def test_the_last_regions_of_an_image_make_room() -> None:
    before, batch = made_up_batch(), chosen(4)
    assert len(batch.rois) == len(before.rois)
    first, second = (batch.rois[batch.rois[:, 0] == image, 1:] for image in range(2))
    # Most confident first; the last prior is too small.
    assert torch.equal(first, torch.cat([before.rois[:3, 1:], PRIORS[[2, 0, 1]]]))
    # The third lies on an object of which too little is left: it is no background.
    assert torch.equal(second, torch.cat([before.rois[6:10, 1:], PRIORS[[0, 1]]]))
    assert len(batch.level) == len(batch.labels) == len(batch.rois)


def test_they_are_labelled_by_the_objects() -> None:
    batch = chosen(4)
    assert batch.labels.tolist() == [2, 2, 2, 2, 1, 2] + [2] * 6
    moved = decode(PRIORS[:1].double().numpy(), batch.deltas[4:5].double().numpy())
    np.testing.assert_allclose(moved, OBJECTS[:1, 1:5].numpy(), atol=1e-4)
    assert not batch.deltas[[3, 5, 10, 11]].any()
    assert float(batch.overlaps[4]) > 0.8
    assert float(batch.overlaps[3]) == float(batch.overlaps[10]) == 0
    assert torch.equal(batch.overlaps[:3], made_up_batch().overlaps[:3])  # type: ignore[index]


def test_at_least_half_of_the_regions_stay() -> None:
    batch = chosen(4, regions=2)
    assert batch.rois[:, 0].tolist() == [0, 0, 1, 1]
    assert torch.equal(batch.rois[1, 1:], PRIORS[2])
