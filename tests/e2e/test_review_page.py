"""The review page in a real browser, against a real gateway; only the models are fakes."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, ViewportSize, expect, sync_playwright

from tests.e2e.patience import until
from tests.e2e.processes import post_claim
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo
from tests.unit.gateway.servers import valkey
from tests.unit.gateway.serving import served

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_ARGUMENTS = ["--no-sandbox", "--disable-gpu"]
_DESK: ViewportSize = {"width": 1360, "height": 860}
_PHONE: ViewportSize = {"width": 390, "height": 844}

expect.set_options(timeout=60_000)
pytestmark = pytest.mark.skipif(_CHROMIUM is None, reason="Chromium is not installed")
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS, timeout=120_000)
        yield started
        started.close()


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with valkey() as url:
        yield url


@pytest.fixture(scope="module")
def made() -> Fakes:
    return Fakes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def address(folder: Path, redis_url: str, made: Fakes) -> Iterator[str]:
    with served(folder, redis_url, made) as url:
        yield url


@pytest.fixture
def fakes(made: Fakes) -> Fakes:
    """Nothing is sure to be real, so every finding waits for a person; the memory holds two cases."""
    made.segmenter.fake_score = 0.4
    made.classifier.logits = (2.0, 0.5, 9.0)
    made.retrieval.neighbours = (("dent", 0.2), ("scratch", 0.3))
    made.retrieval.cases.clear()
    return made


@pytest.fixture
def url(address: str, folder: Path, fakes: Fakes) -> str:
    """The one gateway of this module, without the claims of the tests before."""
    with closing(sqlite3.connect(folder / "records.db", timeout=10, isolation_level=None)) as records:
        records.execute("PRAGMA foreign_keys = ON")
        records.execute("DELETE FROM claims")
    return address


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[Open]:
    """Opens the page as one more person; any script error or anything the policy refuses fails the test."""
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def opened(reviewer: str = "Ada", path: str = "/review", *, phone: bool = False, **more: Any) -> Page:
        context = browser.new_context(
            viewport=_PHONE if phone else _DESK, has_touch=phone, is_mobile=phone, reduced_motion="reduce", **more
        )
        contexts.append(context)
        context.add_init_script(f"if (origin !== 'null') localStorage.setItem('claimsight-reviewer', {reviewer!r})")
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
        page.goto(url + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def claimed(url: str, photos: int = 1) -> dict[str, Any]:
    answer = post_claim(url, *[photo(RED, size=(320 + 2 * n, 240)) for n in range(photos)])
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def findings(url: str, claim: dict[str, Any]) -> list[dict[str, Any]]:
    body = httpx2.get(f"{url}/v1/claims/{claim['id']}", timeout=30).json()
    return [finding for each in body["photos"] for finding in each["findings"]]


def held(url: str) -> list[dict[str, str] | None]:
    """Who has each waiting case open."""
    return [case["held"] for case in httpx2.get(f"{url}/v1/reviews", timeout=30).json()["data"]]


def actions(url: str, claim: dict[str, Any]) -> list[str | None]:
    return [finding["review"] and finding["review"]["action"] for finding in findings(url, claim)]


def ready(page: Page) -> str:
    """Waits for a case; answers its finding's id."""
    expect(page.locator("#case h1")).to_be_visible()
    expect(page.locator("#similar")).to_have_attribute("aria-busy", "false")
    return page.url.split("finding=")[-1]


def after(page: Page, before: str, press: str) -> str:
    page.keyboard.press(press)
    page.wait_for_function("id => !location.search.endsWith(id)", arg=before)
    return ready(page) if "finding=" in page.url else ""


def test_a_days_work_by_keyboard(open_page: Open, url: str, fakes: Fakes) -> None:
    claim = claimed(url, photos=4)
    page = open_page()
    first = ready(page)
    expect(page.locator("#case")).to_contain_text("Dent?")
    expect(page.locator("#case")).to_contain_text("Front left door")
    second = after(page, first, "a")
    third = after(page, second, "2")  # the second candidate: a scratch
    expect(page.locator(".toast")).to_contain_text("Corrected: Scratch")
    expect(page.locator("#day")).to_contain_text("2 today")
    assert after(page, third, "u") == second  # taken back, and in hand again
    expect(page.locator("#case")).to_contain_text("Dent?")
    expect(page.locator("#day")).to_contain_text("1 today")
    assert after(page, second, "r") == third  # what was in hand before waits its turn
    fourth = after(page, third, "s")
    assert after(page, fourth, "a") == third  # skipped, so it came last
    page.keyboard.press("a")
    expect(page.locator("#nothing")).to_contain_text("Nothing waits for you")
    expect(page.locator("#nothing")).to_contain_text("4 decided today")
    done = {finding["id"]: finding["review"]["action"] for finding in findings(url, claim)}
    assert done == {first: "accept", second: "reject", third: "accept", fourth: "accept"}
    assert {finding["review"]["reviewer"] for finding in findings(url, claim)} == {"Ada"}
    assert httpx2.get(f"{url}/v1/claims/{claim['id']}", timeout=30).json()["summary"]["route"] == "auto"
    until(page, lambda: len(fakes.retrieval.cases) == 3)  # the memory learns after a decision is written
    assert sorted(label for _, label in fakes.retrieval.cases.values()) == ["dent"] * 3


def test_the_way_back_survives_a_reload(open_page: Open, url: str) -> None:
    claim = claimed(url)
    page = open_page()
    ready(page)
    page.keyboard.press("a")
    back = page.get_by_role("button", name="Undo the last decision")
    expect(back).to_be_visible()  # from when the decision's answer is there; the records know it before
    page.reload()
    back.click()
    ready(page)
    assert actions(url, claim) == [None]


def test_a_correction_names_damage_and_part_in_a_dialog(open_page: Open, url: str) -> None:
    claim = claimed(url)
    page = open_page()
    ready(page)
    page.keyboard.press("c")
    dialog = page.get_by_role("dialog", name="What is it really?")
    expect(dialog.get_by_label("Filter the damages")).to_be_focused()
    page.keyboard.type("rus")
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Rust")).to_be_checked()
    dialog.get_by_label("Part").select_option(label="Windshield")
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator("#nothing")).to_be_visible()
    (finding,) = findings(url, claim)
    assert (finding["damage"], finding["part"]["name"]) == ("rust", "windshield")
    page.goto(f"{url}/review?finding={finding['id']}")
    expect(page.locator("#case")).to_contain_text("Corrected by Ada")
    expect(page.locator("#case")).to_contain_text("Before: Dent.")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Undo").last.click()
    expect(page.locator("#case")).to_contain_text("Dent?")
    assert actions(url, claim) == [None]


def test_two_people_get_different_findings_and_are_told_kindly_what_is_taken(open_page: Open, url: str) -> None:
    claimed(url)
    ada = open_page("Ada")
    taken = ready(ada)
    bea = open_page("Bea", f"/review?finding={taken}")
    expect(bea.get_by_role("alert")).to_contain_text("Ada has this finding open")
    expect(bea.locator("#nothing")).to_contain_text("The rest is in other hands")
    ada.keyboard.press("a")
    expect(ada.locator("#nothing")).to_contain_text("1 decided today")


def test_a_decision_that_comes_too_late_overwrites_nothing_and_says_so(open_page: Open, url: str, folder: Path) -> None:
    claim = claimed(url)
    ada = open_page("Ada")
    finding_id = ready(ada)
    with closing(sqlite3.connect(folder / "records.db", timeout=10, isolation_level=None)) as records:
        records.execute("UPDATE review_cases SET held_until = 1")  # she was away for too long
    bea = open_page("Bea")
    assert ready(bea) == finding_id
    bea.keyboard.press("r")
    expect(bea.locator("#nothing")).to_contain_text("1 decided today")
    ada.keyboard.press("a")
    expect(ada.get_by_role("alert")).to_contain_text("Not saved: Somebody decided this")
    expect(ada.locator("#nothing")).to_be_visible()
    (finding,) = findings(url, claim)
    assert (finding["review"]["action"], finding["review"]["reviewer"]) == ("reject", "Bea")


def test_a_decision_that_could_not_be_sent_comes_back(open_page: Open, url: str) -> None:
    claim = claimed(url, photos=2)
    page = open_page()
    first = ready(page)
    lost: list[Route] = []

    def lose(route: Route) -> None:
        lost.append(route)
        route.abort()

    page.route("**/decision", lose)
    second = after(page, first, "a")
    expect(page.get_by_role("alert")).to_contain_text("Not saved, so it comes back")
    page.unroute("**/decision")
    assert len(lost) == 1 and after(page, second, "a") == first
    page.keyboard.press("a")
    expect(page.locator("#nothing")).to_contain_text("2 decided today")
    assert actions(url, claim) == ["accept", "accept"]


def test_a_closed_tab_leaves_its_finding_to_others_at_once(open_page: Open, url: str) -> None:
    claimed(url)
    ada = open_page("Ada")
    taken = ready(ada)
    ada.goto("about:blank")
    until(ada, lambda: held(url) == [None])  # nobody waits for what a page sends as it leaves
    bea = open_page("Bea")
    assert ready(bea) == taken


def test_on_a_phone_everything_is_reached_by_thumb(open_page: Open, url: str) -> None:
    claim = claimed(url, photos=2)
    page = open_page(phone=True)
    first = ready(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tools = page.locator(".tools > :not(.grow)").evaluate_all(
        "all => all.map((one) => one.scrollWidth - one.clientWidth)"
    )
    assert max(tools) <= 0 and len(tools) == 7  # no word of theirs is cut off
    for name in ("No damage", "Skip", "Correct", "Confirm"):
        box = page.locator("#actions").get_by_role("button", name=name).bounding_box()
        assert box and box["height"] >= 44 and box["width"] >= 44 and box["y"] + box["height"] <= _PHONE["height"]
    page.locator(".choice", has_text="Scratch").tap()
    page.wait_for_function("id => !location.search.endsWith(id)", arg=first)
    page.locator(".toast").get_by_role("button", name="Undo").tap()
    page.wait_for_function("id => location.search.endsWith(id)", arg=first)
    page.locator("#actions").get_by_role("button", name="Correct").tap()
    dialog = page.get_by_role("dialog")
    assert dialog.evaluate("node => node.scrollWidth <= node.clientWidth")
    dialog.get_by_text("Scratch").tap()
    dialog.get_by_role("button", name="Save").tap()
    page.wait_for_function("id => !location.search.endsWith(id)", arg=first)
    ready(page)
    page.locator("#actions").get_by_role("button", name="No damage").tap()
    expect(page.locator("#nothing")).to_contain_text("2 decided today")
    assert sorted(action or "" for action in actions(url, claim)) == ["correct", "reject"]


def test_the_mask_comes_off_and_the_photo_zooms(open_page: Open, url: str) -> None:
    claimed(url)
    page = open_page()
    ready(page)
    expect(page.locator(".sheet polygon")).to_have_count(1)
    page.locator(".sheet img").evaluate("photo => photo.decode()")  # the page frames the finding once more then
    page.keyboard.press("m")
    expect(page.locator(".sheet polygon")).to_have_count(0)
    page.keyboard.press("m")
    framed = page.locator(".sheet").bounding_box()
    page.keyboard.press("0")
    whole = page.locator(".sheet").bounding_box()
    assert framed and whole and framed["width"] > whole["width"]
    page.keyboard.press("f")
    assert page.locator(".sheet").bounding_box() == framed
    expect(page.locator(".sheet image")).to_have_attribute("href", f"/v1/reviews/{ready(page)}/crop.webp")


def test_reviewed_crops_are_pictured_among_the_past_cases(open_page: Open, url: str) -> None:
    claimed(url)
    claimed(url)
    page = open_page()
    after(page, ready(page), "a")
    expect(page.locator("#similar .tiles img")).to_have_count(1)
    expect(page.locator("#similar .tiles img")).not_to_have_js_property("naturalWidth", 0)
    expect(page.locator("#similar .tiles")).to_contain_text("a person said so")
    expect(page.locator("#similar .near")).to_contain_text("from training")


def test_keys_are_listed_and_can_be_switched_off(open_page: Open, url: str) -> None:
    claim = claimed(url)
    page = open_page()
    ready(page)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_contain_text("Undo the last decision")
    dialog.get_by_label("Single keys decide").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.wait_for_timeout(300)
    assert actions(url, claim) == [None]
    page.locator("#actions").get_by_role("button", name="Confirm").click()
    expect(page.locator("#nothing")).to_be_visible()


def test_a_reader_hears_what_is_shown_and_everything_has_a_name(open_page: Open, url: str) -> None:
    claimed(url)
    page = open_page()
    ready(page)
    expect(page.locator("#live")).to_contain_text("Dent on Front left door")
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, a, input, select')].filter((node) => node.checkVisibility() &&"
        " !(node.ariaLabel || node.innerText?.trim() || node.labels?.length)).map((node) => node.outerHTML)"
    )
    assert nameless == []
    page.keyboard.press("a")
    expect(page.locator("#live")).to_contain_text("Confirmed: Dent")
