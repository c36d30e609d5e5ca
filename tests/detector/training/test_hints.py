"""Hints: what they compare, that they teach, and that the layer which takes them stays out of what is made."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from detector.model.config import BUNDLED_MODEL, read_model_config
from detector.model.teacher import EfficientNetTeacher, load_teacher, save_teacher
from detector.nets.efficientnet_lite import FEATURES, EfficientNetLite, EfficientNetLiteConfig
from detector.nets.googlenet import GoogLeNet, GoogLeNetConfig, Logits
from detector.nets.weights import Normalization
from detector.recipes.build import check_beginning, find_teacher
from detector.recipes.initialization import initialise
from detector.recipes.region import TrainRecipe
from detector.training.hints import Hinted, HintedGoogLeNet, HintingTeacher, hint_loss
from detector.training.teaching import TaughtBatches, TeachingConfig
from proposals.errors import UserError
from tests.detector.training.test_teaching import ByColour, settings, source, steps, trainer

PLAIN = {"grey": 0.0, "saturation": 0.0, "cast": 0.0}
HINTS = TeachingConfig(uses=3, kept=2, hint=0.5)
CONFIG = GoogLeNetConfig(num_outputs=3, norm="batch", width=0.1, stem="stride4", dropout=0.0)
CPU = torch.device("cpu")


class Describing(ByColour):
    """Describes crops by the mean of each channel in the middle, and by one feature that is the same for all."""

    num_features = 4

    def name_and_describe(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        middle = crops[:, :, 8:-8, 8:-8].mean((2, 3))
        return self.name_crops(crops), torch.cat([middle, torch.ones(len(crops), 1)], 1)


def test_a_hint_is_compared_standardised_over_the_crops_that_were_read() -> None:
    generator = torch.Generator().manual_seed(0)
    guess, features = torch.randn(6, 4, generator=generator), 50 * torch.rand(6, 4, generator=generator) + 7
    features[:, 3] = 2.0
    seen = torch.tensor([True, True, False, True, True, True])
    told = features[seen].numpy()
    expected = ((guess[seen].numpy() - (told - told.mean(0)) / (told.std(0) + 0.05)) ** 2).mean()
    assert float(hint_loss(guess, features, seen)) == pytest.approx(float(expected), rel=1e-5)
    features[2] = torch.inf
    assert float(hint_loss(guess, features, seen)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("aux", [False, True])
def test_in_evaluation_the_net_is_one_like_any_other(aux: bool) -> None:
    config = CONFIG.model_copy(update={"aux": aux, "aux_pool": "adaptive"})
    torch.manual_seed(0)
    plain = GoogLeNet(config)
    torch.manual_seed(0)
    hinted = HintedGoogLeNet(config, 4)
    crops = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    first = {name: value for name, value in hinted.state_dict().items() if not name.startswith("guess.")}
    assert all(torch.equal(value, first[name]) for name, value in plain.state_dict().items())
    assert torch.equal(plain.eval()(crops), hinted.eval()(crops))
    left = hinted.without_guess()
    assert type(left) is GoogLeNet
    assert not left.training
    assert torch.equal(left(crops), plain(crops))
    torch.manual_seed(2)
    expected = plain.train()(crops)
    torch.manual_seed(2)
    found = hinted.train()(crops)
    assert isinstance(found, Hinted)
    assert found.guess.shape == (3, 4)
    assert isinstance(found.said, Logits) == aux
    assert torch.equal(torch.stack(tuple(found.said)), torch.stack(tuple(expected)))


def test_batches_bring_the_features_of_their_own_crops() -> None:
    config = TeachingConfig(uses=3, kept=2, hint=0.5, **PLAIN)
    batches = list(TaughtBatches(source(), Describing(), config).stream(steps(0, 6)))
    for batch in batches:
        assert batch.features is not None
        # The middle of a mirrored crop has the same means.
        expected = Describing().name_and_describe(batch.crops)[1]
        torch.testing.assert_close(batch.features, expected, rtol=1e-3, atol=0.1)
    (without,) = TaughtBatches(source(), Describing(), TeachingConfig(**PLAIN)).stream(steps(0, 1))
    assert without.features is None


def test_a_pupil_learns_its_teachers_features(tmp_path: Path) -> None:
    """With hints that count for almost everything what is guessed comes near what was told; the result has no guess."""
    changes = {"steps": 60, "batch_size": 32, "average": 0.0}
    made = trainer(tmp_path, Describing(), **changes, teaching=TeachingConfig(share=1.0, hint=10.0, **PLAIN))
    (batch,) = TaughtBatches(made.batches.source, Describing(), HINTS).stream(steps(900, 1))
    features = batch.features
    assert features is not None

    def distance() -> float:
        net = made.net.train()
        with torch.no_grad():
            output = net(made.config.normalization(batch.crops))
        assert isinstance(output, Hinted)
        return float(hint_loss(output.guess, features, torch.ones(len(features), dtype=torch.bool)))

    before = distance()
    result = made.run()
    assert distance() < 0.5 * before
    assert type(result) is GoogLeNet
    assert "guess.weight" in made.net.state_dict()
    assert set(result.state_dict()) == set(GoogLeNet(made.config.net).state_dict())


def test_a_hinted_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    expected = trainer(tmp_path / "whole", Describing(), teaching=HINTS).run().state_dict()
    first = trainer(tmp_path / "parts", Describing(), teaching=HINTS)
    stream = first.stream
    first.stream = lambda numbers: islice(stream(numbers), 4)  # type: ignore[method-assign]
    first.run()
    second = trainer(tmp_path / "parts", Describing(), teaching=HINTS)
    second.resume()
    state = second.run().state_dict()
    for name, value in expected.items():
        assert torch.equal(value, state[name]), name
    without = trainer(tmp_path / "without", Describing(), teaching=HINTS.model_copy(update={"hint": 0.0}))
    assert any(not torch.equal(value, expected[name]) for name, value in without.run().state_dict().items())


def test_parts_of_a_batch_keep_their_features(tmp_path: Path) -> None:
    made = trainer(tmp_path, Describing(), teaching=HINTS)
    (batch,) = made.batches.stream(steps(0, 1))
    assert batch.features is not None
    parts = made.split(batch, 3)
    assert torch.equal(torch.cat([part.features for part in parts if part.features is not None]), batch.features)


def test_first_weights_are_of_a_net_without_a_guess() -> None:
    model = read_model_config(BUNDLED_MODEL)
    hinted, plain = HintedGoogLeNet(model.members[0].net, 4), GoogLeNet(model.members[0].net)
    guess = hinted.guess.weight.clone()
    initialise(hinted, "bundled", model.class_keys)
    initialise(plain, "bundled", model.class_keys)
    assert torch.equal(hinted.guess.weight, guess)
    left = hinted.without_guess().state_dict()
    assert all(torch.equal(value, left[name]) for name, value in plain.state_dict().items())


def test_a_teacher_directory_describes_crops_by_what_it_names_them_by(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = EfficientNetLite(EfficientNetLiteConfig(num_outputs=3, size=32))
    for value in net.state_dict().values():
        torch.nn.init.normal_(value, std=0.1)
    about = {"name": "t", "description": "", "licence": "MIT", "provenance": {}, "scores": {}}
    save_teacher(tmp_path, net, Normalization(), half=False, class_names=("a", "b"), class_keys=("a", "b"), **about)  # type: ignore[arg-type]
    teacher = load_teacher(tmp_path, CPU, "float32")
    assert isinstance(teacher, HintingTeacher)
    crops = torch.rand(5, 3, 32, 32) * 255
    answers, features = teacher.name_and_describe(crops)
    assert features.shape == (5, FEATURES) == (5, teacher.num_features)
    assert torch.equal(teacher.name_crops(crops), answers)
    with torch.no_grad():
        torch.testing.assert_close(net.eval().fc(features).softmax(1), answers)


def test_a_model_directory_gives_no_hints(tmp_path: Path) -> None:
    model = read_model_config(BUNDLED_MODEL)
    teacher = find_teacher("bundled", model.class_keys, CPU, "auto")
    assert not isinstance(teacher, (HintingTeacher, EfficientNetTeacher))
    with pytest.raises(UserError, match=r"teaching\.hint: only a teacher directory"):
        trainer(tmp_path, ByColour(), teaching=HINTS)
    net = CONFIG.model_copy(update={"num_outputs": len(model.class_keys) + 1})
    recipe = TrainRecipe(teacher="bundled", init="random", training=settings(net=net, teaching=HINTS))
    with pytest.raises(UserError, match=r"teaching\.hint: only a teacher directory"):
        check_beginning(recipe, model.class_keys)
