"""The report in a real browser: it says nothing on the console, sorts, filters, and opens pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from headless_browser import Page
from made_up_evaluation import CLASSES, HOSTILE, made_up_evaluation

from detector.report.write import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    evaluation = made_up_evaluation(folder / "pictures", n_images=60)
    write_report(evaluation, folder / "report.html", config="a: 1\n")
    return folder / "report.html"


@pytest.fixture
def page(browser: Page, report_file: Path) -> Page:
    """The report, freshly loaded, with its gallery in view."""
    browser.said.clear()
    browser.requested.clear()
    browser.prefer("light")
    browser.resize(1360, 900)
    browser.open(report_file)
    browser.run("document.querySelector('#gallery').scrollIntoView({behavior: 'instant'})")
    browser.until("document.querySelectorAll('.card-open').length > 0")
    return browser


def choose(page: Page, selector: str, value: str, event: str = "input") -> None:
    """Give a field a value, as typing or choosing does."""
    page.run(
        f"(() => {{ const f = document.querySelector('{selector}'); f.value = '{value}';"
        f" f.dispatchEvent(new Event('{event}', {{bubbles: true}})); }})()"
    )


def cards(page: Page, what: str) -> list[str]:
    """What the cards that are shown say of themselves: their kind, label or score."""
    found: list[str] = page.run(f"[...document.querySelectorAll('.card-open')].map((c) => c.dataset.{what})")
    assert found
    return found


def column(page: Page, table: str, index: int) -> list[str]:
    """Sort keys of the rows that are shown."""
    value: list[str] = page.run(
        f"[...document.querySelectorAll('#{table} tbody tr')].filter((r) => !r.hidden)"
        f".map((r) => r.cells[{index}].dataset.v)"
    )
    return value


def test_says_nothing_and_fetches_nothing(page: Page, report_file: Path) -> None:
    assert page.said == []
    fetched = [url for url in page.requested if not url.startswith("data:")]
    assert fetched == [report_file.resolve().as_uri()]


def test_hostile_names_run_nothing(page: Page) -> None:
    assert page.run("document.querySelectorAll('img[src=x], script[src]').length") == 0
    assert page.run("document.querySelectorAll('#class-table .pick')[1].textContent") == HOSTILE
    page.run("document.querySelectorAll('.card-open')[0].click()")
    assert "onerror" in page.run("document.querySelector('#view-note').textContent")
    assert page.run("document.querySelectorAll('img[src=x]').length") == 0
    assert page.said == []


def test_a_script_that_slipped_through_would_not_run(page: Page) -> None:
    page.run(
        "new Promise((f) => {"
        " addEventListener('securitypolicyviolation', (e) => { window.stopped = e.violatedDirective; f(); });"
        " const s = document.createElement('script'); s.textContent = 'window.pwned = 1'; document.body.append(s); })"
    )
    assert page.run("window.pwned === undefined && window.stopped.startsWith('script-src')")
    page.said.clear()  # the browser complains about the script that this test put there


def test_table_sorts_by_numbers_both_ways_and_keeps_undefined_ones_last(page: Page) -> None:
    given = column(page, "class-table", 1)
    known, unknown = sorted(filter(None, given), key=float), [v for v in given if not v]
    assert unknown
    assert len(set(known)) > 1, "or the order would prove nothing"
    for expected in (known[::-1], known):
        page.run("document.querySelectorAll('#class-table thead button')[1].click()")
        assert column(page, "class-table", 1) == expected + unknown
    heads = page.run("[...document.querySelectorAll('#class-table thead th')].map((h) => h.getAttribute('aria-sort'))")
    assert heads[1] == "ascending"
    assert heads.count(None) == len(heads) - 1


def test_table_filters_by_name(page: Page) -> None:
    choose(page, "#class-filter", "SCRIPT")
    assert column(page, "class-table", 0) == [HOSTILE]
    shown = page.run("document.querySelector('[data-count=class-table]').textContent")
    assert shown == f"1 of {len(CLASSES)} classes"


def test_choosing_a_class_draws_its_curve(page: Page) -> None:
    page.run("document.querySelector('#classes').scrollIntoView({behavior: 'instant'})")
    before = page.run("document.querySelectorAll('#pr-chart path').length")
    page.run("document.querySelector('#class-table .pick[aria-pressed=true]').click()")
    assert page.run("document.querySelectorAll('#pr-chart path').length") == before - 1
    page.run("document.querySelector('#class-table tr[data-class=\"0\"] .pick').click()")
    assert "cat" in page.run("document.querySelector('#pr-legend').textContent")


def test_gallery_filters_by_kind_class_and_score(page: Page) -> None:
    count = "document.querySelectorAll('.card-open').length"
    assert page.run(count) == 24, "one page of cards"
    page.run(
        "document.querySelectorAll('#gallery-filter .chips input')"
        ".forEach((b) => { if (b.value !== 'background') b.click(); })"
    )
    assert set(cards(page, "kind")) == {"background"}
    choose(page, "#by-class", "0")
    labels = cards(page, "label")
    assert set(labels) == {"0"}
    choose(page, "#score-from", "0.5")
    scores = cards(page, "score")
    assert min(map(float, scores)) >= 0.5
    assert len(scores) < len(labels)


def test_gallery_grows_page_by_page_and_says_which_file_is_missing(page: Page) -> None:
    # Scrolled on, as a reader does, until it has no more to show.
    page.until("(document.querySelector('#more').scrollIntoView({behavior: 'instant'}), "
               "document.querySelector('#more').hidden)")  # fmt: skip
    assert len(cards(page, "kind")) == 60
    assert page.run("document.querySelectorAll('.card-open .gone').length") == 1


def test_scores_below_zero_are_shown(page: Page) -> None:
    choose(page, "#order", "low")
    assert float(cards(page, "score")[0]) == -0.5
    choose(page, "#score-from", "0")
    assert page.run("document.querySelector('#gallery-count').textContent").startswith("59 of 60 cases")


def test_a_count_of_the_analysis_leads_to_its_cases(page: Page) -> None:
    page.run("document.querySelector('a[data-kind=duplicate]').click()")
    assert set(cards(page, "kind")) == {"duplicate"}


def test_picture_opens_with_the_keyboard_alone_and_moves_on(page: Page) -> None:
    page.run("document.querySelector('.card-open').focus()")
    page.press("Enter")
    page.until("document.querySelector('#view').open && document.querySelector('#view img').complete")
    assert page.run("document.querySelector('#view img').naturalWidth") == 64
    assert page.run("document.querySelector('#view-note').textContent").startswith("1 of 60")
    page.press("ArrowRight")
    assert page.run("document.querySelector('#view-note').textContent").startswith("2 of 60")
    page.press("ArrowLeft")
    assert page.run("document.querySelector('#view-note').textContent").startswith("1 of 60")
    page.press("Escape")
    page.until("!document.querySelector('#view').open")
    assert page.run("document.activeElement.className") == "card-open", "the focus returns to the card"


def test_picture_shows_objects_detections_and_proposals(page: Page) -> None:
    page.run("document.querySelector('.card-open').click()")
    boxes = {
        layer: f"document.querySelectorAll('#view .boxes .{layer}:not(.focus)').length"
        for layer in ("truths", "detections", "proposals")
    }
    assert {layer: page.run(script) for layer, script in boxes.items()} == {
        "truths": 2, "detections": 1, "proposals": 0,
    }  # fmt: skip
    page.run("document.querySelector('[data-layer=proposals]').click()")
    assert page.run(boxes["proposals"]) == 2
    page.run("document.querySelector('[data-layer=truths]').click()")
    assert page.run(boxes["truths"]) == 0


def test_list_of_a_picture_is_walked_with_the_keyboard(page: Page) -> None:
    page.run("document.querySelector('.card-open').click()")
    page.run("document.querySelector('#view-list').focus()")
    tags = []
    for _ in range(3):
        page.press("ArrowDown")
        tags.append(page.run("document.querySelector('#view .tag').textContent"))
    assert tags[:2] == ["cat object", f"{HOSTILE} object"]
    assert tags[2].startswith("cat 0.")
    page.press("ArrowUp")
    assert page.run("document.querySelector('#view .tag').textContent") == tags[1]


def test_matrix_is_read_with_the_arrow_keys(page: Page) -> None:
    page.run("document.querySelector('#matrix canvas').focus()")
    page.press("ArrowRight")
    assert page.run("document.querySelector('#matrix-readout').textContent") == (
        f"cat taken for {HOSTILE}: 1 of 6 (16.7 %)."
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_themes(page: Page, scheme: str) -> None:
    page.prefer(scheme)
    worst = page.run(
        """(() => {
          const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
          const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number);
            return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b); };
          const ground = (e) => { for (; e; e = e.parentElement) {
            const c = getComputedStyle(e).backgroundColor;
            if (!/, 0\\)$/.test(c) && c.startsWith("rgb(")) return c; } return "rgb(255, 255, 255)"; };
          let worst = 99;
          const all = "h1,h2,h3,p,th,td,dt,dd,a,button,summary,label span,.card-text div";
          for (const e of document.querySelectorAll(all)) {
            if (!e.offsetParent || !e.textContent.trim() || e.disabled) continue;
            const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => x - y);
            worst = Math.min(worst, (b + 0.05) / (a + 0.05));
          }
          return worst;
        })()"""
    )
    assert worst >= 4.5, "WCAG AA for text"
    assert page.said == []


def test_theme_can_be_chosen_against_the_system(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.run(ground)
    choose(page, "#theme", "dark", "change")
    assert page.run(ground) != light
    choose(page, "#theme", "auto", "change")
    assert page.run(ground) == light


@pytest.mark.parametrize("width", [320, 390, 768, 1360])
def test_no_width_scrolls_sideways(page: Page, width: int) -> None:
    page.resize(width, 800, mobile=width < 700)
    assert page.run("document.documentElement.scrollWidth") <= width


def test_pictures_in_a_folder_load_when_they_are_seen(browser: Page, tmp_path: Path) -> None:
    evaluation = made_up_evaluation(tmp_path / "pictures", n_images=60)
    write_report(evaluation, tmp_path / "r.html", pictures_in_folder=True)
    browser.resize(1360, 900)
    browser.said.clear()
    browser.requested.clear()
    browser.open(tmp_path / "r.html")
    assert [url for url in browser.requested if url.endswith(".jpg")] == [], "none before the gallery is near"
    browser.run("document.querySelector('#gallery').scrollIntoView({behavior: 'instant'})")
    browser.until("document.querySelector('.card-open img')?.naturalWidth === 64")
    assert browser.said == []
