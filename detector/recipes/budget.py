"""How a training spends a budget of time: images and steps, by what they cost on this machine."""

from __future__ import annotations

from typing import NamedTuple


class Costs(NamedTuple):
    """Seconds.

    Attributes:
        image: to read an image and to search it for proposals. step: of the training. end: behind the last step, for
            the validation and the model.
    """

    image: float
    step: float
    end: float


class Plan(NamedTuple):
    """So many of the images are used, in so many steps."""

    images: int
    steps: int


def plan_training(seconds: float, available: int, images_in_step: int, costs: Costs) -> Plan:
    """The plan that ends after ``seconds``, of a training with ``available`` images.

    An image is worth its cost if it is shown at least once; of more images than that some are left out. There is at
    least one image and one step, however little time there is.
    """
    room = max(seconds - costs.end, 0.0)
    shown_once = room / (costs.image + costs.step / images_in_step)
    images = max(1, min(available, int(shown_once)))
    return Plan(images, max(1, int((room - images * costs.image) / costs.step)))
