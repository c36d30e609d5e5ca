"""The page in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from headless_browser import Page

HOSTILE = "<img src=x onerror=alert(1)>"
RED, GREY, DARK_BLUE = (250, 10, 10), (90, 90, 90), (60, 60, 90)

pytestmark = pytest.mark.browser


@pytest.fixture
def address(app: Any) -> Iterator[str]:
    """Of the application, on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    listening = uvicorn.Config(app, port=0, log_level="error").bind_socket()
    listening.listen()  # so that the browser waits for a server that is slow to begin
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture
def page(browser: Page, address: str) -> Page:
    """The page, freshly loaded, with the model's name in it."""
    browser.said.clear()
    browser.requested.clear()
    browser.open(address)
    browser.until("document.querySelector('#name')?.textContent === 'googlenet-voc'")
    return browser


@pytest.fixture
def opened(page: Page, picture: Any) -> Page:
    """With an image of a tomato and of something blue below the model's threshold."""
    page.choose_file("#file", picture(f"{HOSTILE}.png", right=DARK_BLUE, size=(400, 600)))
    page.until("document.querySelector('#status').textContent.includes('600 x 400 pixels')")
    return page


def found(page: Page) -> list[str]:
    names: list[str] = page.run("[...document.querySelectorAll('#found li')].map((e) => e.textContent)")
    return names


def put(page: Page, field: str, value: str) -> None:
    """Move a slider."""
    page.run(
        f"document.querySelector('{field}').value = '{value}';"
        f"document.querySelector('{field}').dispatchEvent(new Event('input'))"
    )


def ready(page: Page) -> None:
    page.until("!document.body.classList.contains('busy')")


def click(page: Page, x: float, y: float) -> None:
    """Click where (x, y) of the image is shown, as a mouse does."""
    left, top, width = page.run(
        "(({left, top, width}) => [left, top, width])(document.querySelector('#boxes').getBoundingClientRect())"
    )
    at = {"x": left + x * width / 600, "y": top + y * width / 600, "button": "left", "clickCount": 1}
    page.call("Input.dispatchMouseEvent", type="mousePressed", **at)
    page.call("Input.dispatchMouseEvent", type="mouseReleased", **at)


def test_an_image_shows_its_detections_and_no_other_server_is_asked(opened: Page, address: str) -> None:
    assert found(opened) == ["tomato0.94"]
    assert opened.run("[...document.querySelectorAll('#boxes .box')].map((e) => e.getAttribute('width'))") == ["300"]
    assert opened.run("document.querySelector('#image').naturalWidth") == 600
    assert opened.said == []
    assert all(url.startswith((address, "data:")) for url in opened.requested)


def test_the_threshold_does_not_run_the_model_again(opened: Page) -> None:
    asked = list(opened.requested)
    put(opened, "#threshold", "0.1")
    assert found(opened) == ["tomato0.94", f"{HOSTILE}0.12"]
    put(opened, "#threshold", "1")
    assert found(opened) == ["Nothing at this score."]
    assert opened.run("document.querySelectorAll('#boxes .box').length") == 0
    assert opened.requested == asked


def test_proposals_by_source(opened: Page) -> None:
    proposals = "document.querySelectorAll('#boxes .proposal').length"
    assert opened.run("document.querySelector('#sources').textContent") == "given (2)"
    assert opened.run(proposals) == 0
    opened.run("document.querySelector('#sources input').click()")
    assert opened.run(proposals) == 2
    put(opened, "#best", "1")
    assert opened.run(proposals) == 1


def test_each_network_is_asked_about_the_box_that_is_clicked(opened: Page) -> None:
    click(opened, 450, 200)  # nothing is drawn there
    assert opened.run("document.querySelector('#networks').textContent") == ""
    click(opened, 100, 200)
    opened.until("document.querySelectorAll('#networks h3').length === 2")
    ready(opened)
    heads = opened.run("[...document.querySelectorAll('#networks h3')].map((e) => e.textContent)")
    assert heads == ["network 1", "network 2 (overlap with an object 0.50)"]
    assert opened.run("document.querySelector('#networks tr').textContent") == "tomato0.94"
    assert opened.run("document.querySelectorAll('#boxes .chosen').length") == 1
    opened.run("document.querySelector('#sources input').click()")
    click(opened, 450, 200)
    opened.until("document.querySelector('#networks tr').textContent.startsWith('background')")


def test_the_list_works_as_the_image_does(opened: Page) -> None:
    opened.run("document.querySelector('#found button').focus()")
    opened.press("Enter")
    opened.until("document.querySelectorAll('#networks h3').length === 2")


def test_hostile_names_run_nothing(opened: Page) -> None:
    put(opened, "#threshold", "0.1")
    opened.run("document.querySelectorAll('#found button')[1].click()")
    opened.until("document.querySelectorAll('#networks h3').length === 2")
    opened.run("document.querySelector('details').open = true")
    assert HOSTILE in opened.run("document.querySelector('#card').textContent")
    assert HOSTILE in opened.run("document.querySelector('#status').textContent + document.querySelector('#image').alt")
    assert opened.run("document.querySelectorAll('img').length") == 1
    assert opened.said == []


def test_a_broken_image_is_told_and_the_last_one_stays(opened: Page, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    opened.choose_file("#file", tmp_path / "broken.jpg")
    opened.until("document.querySelector('#status').textContent.startsWith('Error: the image is cut short')")
    assert found(opened) == ["tomato0.94"]


def test_an_image_of_the_camera(page: Page) -> None:
    page.run("document.querySelector('#camera').click()")
    page.until("document.querySelector('#video').videoWidth > 0 && !document.querySelector('#take').hidden")
    page.run("document.querySelector('#take').click()")
    page.until("document.querySelector('#status').textContent.startsWith('camera: ')")
    assert page.run("document.querySelector('#image').naturalWidth") > 0
    assert page.run("document.querySelector('#video').srcObject === null && document.querySelector('#video').hidden")
    assert page.said == []


@pytest.mark.parametrize("width", [360, 1280])
def test_no_width_scrolls_sideways(opened: Page, width: int) -> None:
    opened.resize(width, 800, mobile=width < 700)
    assert opened.run("document.documentElement.scrollWidth") <= width
    opened.resize(1360, 900)


def test_a_server_that_has_gone_is_told(opened: Page, address: str) -> None:
    opened.run("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    opened.run("document.querySelector('#found button').click()")
    opened.until("document.querySelector('#status').textContent === 'The server does not answer; is it running?'")
