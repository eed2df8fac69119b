"""The report in a browser: nothing fails, nothing is requested, tables sort, narrow pages do not scroll sideways."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.reports import evaluation_of, judged_set
from rerank_eval.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
else:
    pytest.importorskip("playwright", reason="drives the browser")

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets, a model with a long name, texts that would run, and a word without a place to break."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    sets = (
        judged_set(queries=12, doc="</script><script>alert(1)</script> "),
        judged_set("中文" * 30, queries=6, doc="w" * 300),
    )
    write_report(evaluation_of(*sets, names=("good", "a/model/with/a/" + "very-" * 20 + "long-name")), path)
    return path


def opened(browser: Browser, report: Path, seen: list[str], **options: Any) -> Page:
    """The page, with what must not happen in ``seen``: messages, errors, requests beside the file itself."""
    page = browser.new_page(**options)
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("dialog", lambda dialog: seen.append(dialog.message))
    page.on("request", lambda request: seen.append(request.url) if request.url != report.as_uri() else None)
    page.goto(report.as_uri())
    return page


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens(browser: Browser, report: Path, width: int, scheme: str) -> None:
    """No message, no request, no scrolling of the page sideways, also with everything unfolded; plots are there, and
    texts contrast with the page."""
    seen: list[str] = []
    page = opened(browser, report, seen, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.querySelectorAll('svg')].filter((one) => one.clientWidth > 100).length") >= 14
    light = [
        sum(map(int, colour[4:-1].split(",")))
        for colour in page.evaluate("['color', 'backgroundColor'].map((name) => getComputedStyle(document.body)[name])")
    ]
    assert (light[0] < light[1]) == (scheme == "light")
    assert abs(light[0] - light[1]) > 500
    # Texts of plots take the page's colour.
    assert page.evaluate("getComputedStyle(document.querySelector('svg text')).fill") == page.evaluate(
        "getComputedStyle(document.querySelector('.card')).color"
    )
    page.close()
    assert seen == []


def column(page: Page, number: int) -> list[str]:
    """The first words of a column of the first set's table, without floors and ceiling."""
    rows = page.locator("#set1 table.sortable").first.locator("tbody").first.locator("tr")
    return [rows.nth(at).locator("th, td").nth(number).inner_text().split("\n")[0] for at in range(rows.count())]


def test_tables_sort(browser: Browser, report: Path) -> None:
    """By a click and by keys, in both directions; empty cells stay last, and the header says the order."""
    seen: list[str] = []
    page = opened(browser, report, seen, viewport={"width": 1280, "height": 900})
    heads = page.locator("#set1 table.sortable").first.locator("thead th")
    names = [heads.nth(at).inner_text().split()[0] for at in range(heads.count())]
    quality, latency = names.index("nDCG@10"), names.index("latency")
    assert column(page, quality) == sorted(column(page, quality), reverse=True)
    assert heads.nth(quality).get_attribute("aria-sort") == "descending"

    heads.nth(quality).locator("button").click()
    assert column(page, quality) == sorted(column(page, quality))
    assert heads.nth(quality).get_attribute("aria-sort") == "ascending"

    heads.nth(latency).locator("button").focus()
    page.keyboard.press("Enter")
    assert column(page, latency) == ["10 ms", "2.0 ms", ""]
    page.keyboard.press("Space")
    assert column(page, latency) == ["2.0 ms", "10 ms", ""]
    assert heads.nth(quality).get_attribute("aria-sort") is None

    heads.nth(0).locator("button").click()
    assert [name.rpartition(" ")[2][:4] for name in column(page, 0)] == ["a/mo", "sear", "good"]
    page.close()
    assert seen == []


def test_sets_are_shown_one_at_a_time(browser: Browser, report: Path) -> None:
    """The buttons choose a set; without the script all sets are there."""
    seen: list[str] = []
    page = opened(browser, report, seen, viewport={"width": 1280, "height": 900})
    assert page.locator("article.set:visible").count() == 2
    page.locator("nav.switch button").nth(2).click()
    assert page.locator("article.set:visible").evaluate_all("(sets) => sets.map((set) => set.id)") == ["set2"]
    page.locator(".answers a").first.click()
    assert page.locator("article.set:visible").count() == 2
    page.close()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("article.set:visible").count() == 2
    assert not page.locator("nav.switch").is_visible()
    context.close()
    assert seen == []
