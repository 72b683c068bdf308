"""On the review page: claims without a finding are decided, and damages that the models missed are drawn."""

from __future__ import annotations

from typing import Any

import httpx2
from playwright.sync_api import Page, expect

from tests.e2e.processes import post_claim
from tests.e2e.test_review_page import (  # noqa: F401 - fixtures
    Open,
    address,
    browser,
    fakes,
    findings,
    folder,
    made,
    open_page,
    pytestmark,
    redis_url,
    url,
)
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import RED, photo


def claimed(url: str, *photos: bytes) -> dict[str, Any]:  # noqa: F811
    answer = post_claim(url, *(photos or (photo(size=(322, 240)),)))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def summary(url: str, claim: dict[str, Any]) -> dict[str, Any]:  # noqa: F811
    found: dict[str, Any] = httpx2.get(f"{url}/v1/claims/{claim['id']}", timeout=30).json()["summary"]
    return found


def ready(page: Page, headline: str = "Nothing found?") -> None:
    expect(page.locator("#case h1")).to_have_text(headline)
    expect(page.locator(".sheet img")).to_be_visible()


def corners(page: Page) -> tuple[tuple[float, float], tuple[float, float]]:
    """On the screen: a quarter and a half of the photo's width and height."""
    box = page.locator(".sheet").bounding_box()
    assert box
    first, second = ((box["x"] + part * box["width"], box["y"] + part * box["height"]) for part in (0.25, 0.5))
    return first, second


def drag(page: Page) -> None:
    start, end = corners(page)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*((a + b) / 2 for a, b in zip(start, end, strict=True)))
    page.mouse.move(*end)
    page.mouse.up()


def test_that_nothing_was_found_is_agreed_to_by_one_key_and_taken_back(open_page: Open, url: str) -> None:  # noqa: F811
    claim = claimed(url)
    page = open_page()
    ready(page)
    assert page.url.endswith(f"case={claim['id']}")
    expect(page.locator("#case")).to_contain_text("No damage was found on any photo.")
    page.keyboard.press("a")
    expect(page.locator("#nothing")).to_contain_text("1 decided today")
    assert (summary(url, claim)["route"], summary(url, claim)["review"]["reviewer"]) == ("auto", "Ada")
    page.get_by_role("button", name="Undo the last decision").click()
    ready(page)
    assert summary(url, claim) == claim["summary"]


def test_a_better_photo_is_asked_for_in_words_that_the_claim_then_shows(open_page: Open, url: str) -> None:  # noqa: F811
    claim = claimed(url, photo(size=(324, 240)), b"\xff\xd8\xff\xe0 no photo" + bytes(300))
    page = open_page()
    ready(page)
    expect(page.locator(".shot")).to_have_count(2)
    page.keyboard.press("2")
    expect(page.locator(".shot.current")).to_contain_text("Unreadable")
    expect(page.locator(".stage")).to_contain_text("cannot be shown")
    page.keyboard.press("b")
    dialog = page.get_by_role("dialog", name="Ask for a better photo")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_be_visible()  # nothing was asked for yet
    dialog.get_by_role("button", name="The whole vehicle").click()
    page.keyboard.press("Enter")
    expect(page.locator("#nothing")).to_contain_text("1 decided today")
    (reason,) = summary(url, claim)["reasons"]
    assert (reason["code"], reason["text"]) == ("photo_wanted", "A person asks for a better photo: The whole vehicle.")
    page.goto(f"{url}/review?case={claim['id']}")
    expect(page.locator("#case")).to_contain_text("A better photo was asked for by Ada")


def test_a_missed_damage_is_drawn_by_mouse_named_by_keyboard_and_taken_back(
    open_page: Open,  # noqa: F811
    url: str,  # noqa: F811
    fakes: Fakes,  # noqa: F811
) -> None:
    claim = claimed(url)
    page = open_page()
    ready(page)
    page.keyboard.press("d")
    drag(page)
    dialog = page.get_by_role("dialog", name="What is it?")
    expect(dialog.get_by_label("Filter the damages")).to_be_focused()
    expect(dialog.get_by_label("Part")).to_have_value("front_left_door")  # what lies under the box
    page.keyboard.type("scr")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("Added: Scratch")
    expect(page.locator(".sheet polygon.human")).to_have_count(1)
    expect(page.locator(".shot")).to_contain_text("One damage")
    (finding,) = findings(url, claim)
    assert (finding["source"], finding["damage"], finding["part"]["name"]) == ("human", "scratch", "front_left_door")
    assert all(abs(edge - wanted) < 0.02 for edge, wanted in zip(finding["box"], [0.25, 0.25, 0.5, 0.5], strict=True))
    assert [label for _, label in fakes.retrieval.cases.values()] == ["scratch"]
    page.keyboard.press("u")
    expect(page.locator(".toast")).to_contain_text("Taken back: Scratch is gone")
    expect(page.locator(".sheet polygon")).to_have_count(0)
    assert findings(url, claim) == [] and fakes.retrieval.cases == {}
    ready(page)  # the claim is still in hand


def test_a_damage_is_drawn_beside_the_finding_in_hand_by_keyboard_alone(open_page: Open, url: str) -> None:  # noqa: F811
    claim = claimed(url, photo(RED, size=(326, 240)))
    page = open_page()
    expect(page.locator("#case h1")).to_have_text("Dent?")
    expect(page.locator("#similar")).to_have_attribute("aria-busy", "false")
    for key in ("d", "ArrowRight", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.keyboard.type("rust")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator(".sheet polygon.human")).to_have_count(1)
    expect(page.locator("#case h1")).to_have_text("Dent?")
    page.keyboard.press("a")
    expect(page.locator("#nothing")).to_contain_text("1 decided today")
    drawn = findings(url, claim)[1]
    assert (drawn["damage"], drawn["box"], drawn["review"]["action"]) == ("rust", [0.41, 0.4, 0.61, 0.61], "add")


def test_on_a_phone_a_damage_is_drawn_with_a_finger(open_page: Open, url: str) -> None:  # noqa: F811
    claim = claimed(url)
    page = open_page(phone=True)
    ready(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Draw a damage that is missing").tap()
    touch = page.context.new_cdp_session(page)
    start, end = corners(page)
    for kind, at in (("touchStart", start), ("touchMove", end), ("touchEnd", None)):
        points = [{"x": at[0], "y": at[1]}] if at else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait_for_timeout(100)  # no finger is faster: Chromium would take it for a fling and eat the next tap
    dialog = page.get_by_role("dialog", name="What is it?")
    dialog.get_by_label("Dent").check()
    dialog.get_by_role("button", name="Add").tap()
    expect(page.locator(".sheet polygon.human")).to_have_count(1)
    (finding,) = findings(url, claim)
    assert finding["damage"] == "dent"
    page.locator("#actions").get_by_role("button", name="Nothing missing").tap()
    expect(page.locator("#nothing")).to_contain_text("1 decided today")
    assert summary(url, claim)["route"] == "auto"


def test_escape_leaves_drawing_and_nothing_happened(open_page: Open, url: str) -> None:  # noqa: F811
    claim = claimed(url)
    page = open_page()
    ready(page)
    page.keyboard.press("d")
    expect(page.locator(".stage.drawing")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".stage.drawing")).to_have_count(0)
    page.keyboard.press("d")
    drag(page)
    page.get_by_role("dialog", name="What is it?").get_by_role("button", name="Cancel").click()
    assert findings(url, claim) == []
