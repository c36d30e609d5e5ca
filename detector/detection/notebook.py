"""What Jupyter shows of detections: their image, small, with the boxes drawn in."""

from __future__ import annotations

import io
from base64 import b64encode

import numpy as np
from PIL import Image

from detector.images.read import AnyImage, as_image
from detector.types import Detections
from proposals.errors import UserError

LONGER_SIDE = 640
"""Pixels: some 100 KB in the notebook."""


def drawn(image: AnyImage, detections: Detections) -> str:
    """An HTML element without scripts or links; a line of text where the image cannot be read any more.

    Args:
        image: that of ``detections``, whose ``class_names`` stand on the boxes.
    """
    from detector.report.drawing import draw_detections

    try:
        small = Image.fromarray(as_image(image))
    except UserError:
        return f"<p>Detections: {len(detections)}; their image cannot be read any more</p>"
    small.thumbnail((LONGER_SIDE, LONGER_SIDE))
    fitting = detections.resized((small.height, small.width))
    file = io.BytesIO()
    Image.fromarray(draw_detections(np.array(small), fitting, detections.class_names)).save(file, "JPEG", quality=85)
    return (
        f'<img alt="Detections: {len(detections)}" src="data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}">'
    )
