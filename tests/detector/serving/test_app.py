"""The application behind the page, by Starlette's test client: answers, limits, and what it refuses."""

from __future__ import annotations

import io
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from detector.model.config import BUNDLED_MODEL, read_model_config
from detector.serving import app as serving

BYTES = {"Content-Type": "application/octet-stream"}
RED, GREY, DARK_BLUE = (250, 10, 10), (90, 90, 90), (60, 60, 90)


def encoded(left: tuple[int, int, int] = RED, right: tuple[int, int, int] = GREY) -> bytes:
    """A PNG of 60 x 40 pixels, ``left`` half and ``right`` half."""
    image, data = Image.new("RGB", (60, 40), right), io.BytesIO()
    image.paste(left, (0, 0, 30, 40))
    image.save(data, "PNG")
    return data.getvalue()


def detect(client: TestClient, data: bytes | None = None) -> Any:
    """The answer to an image."""
    return client.post("/detect", content=encoded() if data is None else data, headers=BYTES)


@pytest.fixture
def client(app: Any) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield client


def test_the_page_and_its_assets(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.text
    for name in ("serve.js", "serve.css"):
        assert name in page.text
        assert client.get(f"/{name}").status_code == 200


def test_the_model(client: TestClient) -> None:
    model = client.get("/model").json()
    assert (model["name"], model["networks"], model["classes"][0]) == ("googlenet-voc", 2, "tomato")
    wanted = read_model_config(BUNDLED_MODEL).postprocess.score_threshold
    assert (model["threshold"], model["least"]) == (wanted, 0.05)


def test_the_card_has_no_markup_of_its_own_no_links_and_no_images(client: TestClient, tmp_path: Path) -> None:
    card = client.get("/model").json()["card"]
    assert "<h1>Card</h1>" in card
    assert "<td>2</td>" in card
    assert "&lt;img src=x" in card
    assert not any(mark in card for mark in ("<img", "<a", "href", "x.png"))
    assert serving.card_html(tmp_path) == "", "a model without a card"


def test_detections_and_proposals_by_source(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    found = detect(client, encoded(right=DARK_BLUE)).json()
    assert (found["width"], found["height"], found["seconds"] > 0) == (60, 40, True)
    assert [(d["name"], d["box"]) for d in found["detections"]] == [
        ("tomato", [0, 0, 30, 40]), ("<img src=x onerror=alert(1)>", [30, 0, 60, 40]),
    ]  # fmt: skip
    scores = [d["score"] for d in found["detections"]]
    assert scores == pytest.approx([240 / 255, 30 / 255]), "also what the model's own threshold hides"
    assert [(s["name"], s["boxes"]) for s in found["sources"]] == [("given", [[0, 0, 30, 40], [30, 0, 60, 40]])]
    shown = Image.open(io.BytesIO(b64decode(found["url"].removeprefix("data:image/jpeg;base64,"))))
    assert shown.size == (60, 40)
    assert shown.getpixel((5, 5))[0] > 200  # type: ignore[index]
    monkeypatch.setattr(serving, "SHOWN_SIDE", 30)
    found = detect(client).json()
    shown = Image.open(io.BytesIO(b64decode(found["url"].partition(",")[2])))
    assert (shown.size, found["width"]) == ((30, 20), 60), "a large image is shown smaller"


def test_what_each_network_says_of_a_region(client: TestClient) -> None:
    assert client.post("/region", json={"image": 0, "box": [0, 0, 1, 1]}).status_code == 409, "before an image"
    image = detect(client).json()["image"]
    first, second = client.post("/region", json={"image": image, "box": [-10, 0, 30, 40]}).json()
    assert first["classes"][0] == ["tomato", pytest.approx(240 / 255)]
    assert first["overlap"] is None
    assert [name for name, _ in second["classes"]] == ["tomato", "<img src=x onerror=alert(1)>", "background"]
    assert second["overlap"] == 0.5


@pytest.mark.parametrize(
    ("region", "status", "told"),
    [
        ({"image": 1, "box": [70, 0, 90, 40]}, 422, "no area inside the image"),
        ({"image": 1, "box": [9, 9, 9, 20]}, 422, "no area inside the image"),
        ({"image": 2, "box": [0, 0, 9, 9]}, 409, "another image"),
        ({"image": 0, "box": [0, 0, 9, 9]}, 409, "another image"),
        ({"image": 1, "box": [0, 0, 9]}, 422, "send"),
        ({"image": 1, "box": [0, 0, 9, 1e400]}, 422, "send"),
        ({"image": 1, "box": [0, 0, 9, 9], "file": "/etc/passwd"}, 422, "send"),
        ({"image": 1, "box": [0] * 1000}, 413, "more than"),
    ],
)
def test_regions_that_are_refused(client: TestClient, region: dict[str, Any], status: int, told: str) -> None:
    assert detect(client).json()["image"] == 1
    text = str(region).replace("'", '"').replace("inf", "1e400")
    answer = client.post("/region", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert told in answer.json()["error"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"<svg onload='alert(1)'/>", "known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "known format"),
        (encoded()[:-40], "damaged"),
        (b"P6 100000 100000 255 ", "more than the limit"),
    ],
    ids=["empty", "svg", "postscript", "cut short", "huge"],
)
def test_a_bad_image_is_told_in_a_line_and_changes_nothing(client: TestClient, data: bytes, told: str) -> None:
    image = detect(client).json()["image"]
    answer = detect(client, data)
    assert answer.status_code == 422
    assert told in answer.json()["error"]
    assert answer.json()["error"].startswith("the image ")
    assert "\n" not in answer.json()["error"]
    assert client.post("/region", json={"image": image, "box": [0, 0, 30, 40]}).status_code == 200


def test_a_large_file_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_BYTES", 3_000_000)
    answer = detect(client, bytes(3_000_001))
    assert (answer.status_code, answer.json()) == (413, {"error": "more than 3 MB; make the image smaller"})


@pytest.mark.parametrize("root", ["", "/serve.js", "/assets"])
@pytest.mark.parametrize("up", ["..", "%2e%2e", "..%2f..%2f..", "..%5c..", "%2fetc", "//etc", "....//"])
@pytest.mark.parametrize("file", ["app.py", "__init__.py", "passwd", "etc/passwd", "%00"])
def test_no_file_of_the_machine_is_readable(client: TestClient, root: str, up: str, file: str) -> None:
    for path in (f"{root}/{up}/{file}", f"{root}/{up}/{up}/{up}/{up}/{up}/{up}/{up}/{up}/{file}"):
        answer = client.get(path)
        assert answer.status_code in (404, 405)
        assert "import" not in answer.text
        assert "root:" not in answer.text


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", ""])
def test_another_host_name_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/model", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "image/png", ""])
@pytest.mark.parametrize("path", ["/detect", "/region"])
def test_types_that_another_site_can_send_are_refused(client: TestClient, path: str, kind: str) -> None:
    answer = client.post(path, content=encoded(), headers={"Content-Type": kind})
    assert (answer.status_code, "application/" in answer.json()["error"]) == (415, True)
    assert "access-control-allow-origin" not in answer.headers


def test_methods(client: TestClient) -> None:
    assert client.get("/detect").status_code == 404
    assert client.put("/serve.js", content=b"x").status_code == 405


def test_one_image_at_a_time(client: TestClient, hostile_detector: Any) -> None:
    begun, go_on, propose = threading.Event(), threading.Event(), hostile_detector.proposals.propose

    def wait(image: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return propose(image)

    hostile_detector.proposals.propose = wait
    answers = []
    first = threading.Thread(target=lambda: answers.append(detect(client)))
    first.start()
    assert begun.wait(60)
    second = detect(client)
    go_on.set()
    first.join()
    assert (second.status_code, answers[0].status_code) == (503, 200)
    assert "busy" in second.json()["error"]
    assert detect(client).status_code == 200
