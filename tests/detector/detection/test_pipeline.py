"""A detector takes images in every form, one or many, and its results can be shown."""

from __future__ import annotations

import io
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.images.read import read_image
from proposals.errors import UserError


@pytest.fixture
def model(fake_model: Any) -> Any:
    return fake_model()


def forms(path: Path) -> dict[str, Any]:
    return {
        "array": read_image(path),
        "PIL": Image.open(path),
        "str": str(path),
        "Path": path,
        "bytes": path.read_bytes(),
        "file": io.BytesIO(path.read_bytes()),
    }


def test_every_form_of_an_image_gives_the_same(model: Any, picture: Any) -> None:
    found = {name: model(image) for name, image in forms(picture("a.png")).items()}
    for name, detections in found.items():
        assert detections.names == ["tomato"], name
        np.testing.assert_array_equal(detections.boxes, found["array"].boxes, err_msg=name)
        assert detections.image_size == (40, 60)


def test_a_pil_image_is_turned_upright_and_made_rgb(model: Any, picture: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(picture("a.png")).convert("RGBA").save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        np.testing.assert_array_equal(model.detect(image)[0].image_size, (60, 40))
    assert model(Image.new("L", (30, 20))).image_size == (20, 30)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((5, 5), np.uint8), r"not uint8 \(5, 5\)"),
        (np.zeros((5, 5, 3), np.float32), r"not float32 \(5, 5, 3\)"),
        (np.zeros((2, 5, 5, 3), np.uint8), r"not uint8 \(2, 5, 5, 3\)"),
        (None, "not NoneType"),
        (7, "not int"),
    ],
)
def test_what_is_no_image_is_refused(model: Any, image: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model(image)


def test_faults_of_files_are_one_line(model: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        model("nowhere.jpg")
    with pytest.raises(UserError, match="is not an image of a known format"):
        model(b"no image")
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:5000])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(UserError, match="the image is cut short"):
        model(cut)


def test_a_list_gives_a_list(model: Any, picture: Any) -> None:
    paths = [picture("a.png"), str(picture("b.png", left=(90, 90, 90)))]
    assert [found.names for found in model(paths)] == [["tomato"], []]
    assert [found.names for found in model(tuple(paths))] == [["tomato"], []]
    assert model([]) == []


@pytest.mark.parametrize("together", [1, 2])
def test_predict_reads_images_when_they_are_asked_for(model: Any, picture: Any, together: int) -> None:
    asked = []

    def images() -> Iterator[Path]:
        for name in "abcde":
            asked.append(name)
            yield picture(f"{name}.png", left=(90, 90, 90) if name == "b" else (250, 10, 10))

    found = model.predict(images(), together)
    assert asked == []
    assert next(found).names == ["tomato"]
    assert len(asked) == together
    assert [each.names for each in found] == [[], ["tomato"], ["tomato"], ["tomato"]]


def test_no_image_at_a_time_is_refused(model: Any, picture: Any) -> None:
    with pytest.raises(ValueError, match="at least one image"):
        next(model.predict([picture("a.png")], together=0))


def shown(html: str) -> Image.Image:
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return Image.open(io.BytesIO(b64decode(data)))


@pytest.mark.parametrize("size", [(400, 600), (1200, 1800)], ids=["as it is", "smaller"])
def test_a_notebook_shows_the_image_with_its_boxes(model: Any, picture: Any, size: tuple[int, int]) -> None:
    for source in (picture("a.png", size=size), read_image(picture("a.png", size=size))):
        html = model(source)._repr_html_()
        assert "<script" not in html
        assert len(html) < 200_000
        drawn = np.asarray(shown(html)).astype(int)
        assert max(drawn.shape) == min(max(size), 640)
        plain = np.asarray(Image.fromarray(read_image(picture("a.png", size=size))).resize(drawn.shape[1::-1]))
        assert np.abs(drawn - plain)[:, : drawn.shape[1] // 2].max() > 60, "a box is drawn around the tomato"


def test_a_notebook_without_the_file_says_so(model: Any, picture: Any) -> None:
    path = picture("a.png")
    found = model(path)
    path.unlink()
    assert found._repr_html_() == "<p>Detections: 1; their image cannot be read any more</p>"


def test_class_names_cannot_break_out_of_the_page(model: Any, picture: Any) -> None:
    model.class_names = ('"><script>alert(1)</script>', "sky")
    html = model(picture("a.png"))._repr_html_()
    assert re.fullmatch(r'<img alt="Detections: 1" src="data:image/jpeg;base64,[A-Za-z0-9+/=]+">', html)
