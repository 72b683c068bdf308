"""The page in a real browser, against a real gateway; only the models are fakes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect, sync_playwright

from services.common.serving.errors import NotReady
from tests.e2e.patience import until
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.pictures import BLUE, RED, photo
from tests.unit.gateway.servers import valkey
from tests.unit.gateway.serving import served

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

expect.set_options(timeout=60_000)
pytestmark = pytest.mark.skipif(_CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, fakes: Fakes) -> Iterator[str]:
    with valkey() as redis_url, served(tmp_path_factory.mktemp("gateway"), redis_url, fakes) as address:
        yield address


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("photos")
    made = {"dent": photo(RED), "mud": photo(BLUE), "broken": photo(RED, size=(1600, 1200))[:-4000], "text": b"hello"}
    paths = {name: folder / f"{name}.jpg" for name in made}
    for name, data in made.items():
        paths[name].write_bytes(data)
    return paths


@pytest.fixture(scope="module", params=[(1360, 900), (360, 740)], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that fails its test on any script error and on anything the content security policy refuses."""
    width, height = request.param
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS, timeout=120_000)
        opened = browser.new_page(viewport={"width": width, "height": height})
        opened.set_default_timeout(60_000)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
        yield opened
        browser.close()
    assert complaints == []


def submit(page: Page, url: str, *chosen: Path) -> None:
    page.goto(url)
    page.set_input_files("#files", [str(path) for path in chosen])
    expect(page.locator("#verdict .badge.busy")).to_have_count(0)


def test_dropped_photos_become_findings_with_their_part_and_confidence(
    page: Page, url: str, photos: dict[str, Path]
) -> None:
    submit(page, url, photos["dent"])
    expect(page.locator("#verdict")).to_contain_text("Nothing here asks for a person")
    expect(page.locator("#verdict")).to_contain_text("Front left door dent")
    card = page.locator(".card")
    expect(card).to_contain_text("Dent")
    expect(card).to_contain_text("98 % sure")
    expect(page.locator(".sheet polygon")).to_have_count(1)
    expect(page.locator(".sheet img")).not_to_have_js_property("naturalWidth", 0)  # it may still be on its way


def test_the_opinions_and_experts_are_explained_on_demand(page: Page, url: str, photos: dict[str, Path]) -> None:
    submit(page, url, photos["dent"])
    page.get_by_text("Why").click()
    expect(page.locator(".card details")).to_contain_text("Second opinion, from the damage alone")
    expect(page.get_by_role("meter", name="Expert 5")).to_have_attribute("aria-valuenow", "20")


def test_one_bad_photo_is_shown_with_its_own_error(page: Page, url: str, photos: dict[str, Path]) -> None:
    submit(page, url, photos["dent"], photos["broken"])
    expect(page.locator("#verdict")).to_contain_text("One photo could not be read")
    page.locator(".strip button").nth(1).click()
    expect(page.locator(".card.failed")).to_contain_text("damaged or cut off")


def test_a_photo_of_a_canceled_claim_is_not_said_to_show_no_damage(
    page: Page, url: str, photos: dict[str, Path], fakes: Fakes
) -> None:
    fakes.classifier.problem = NotReady("The classifier cannot be reached")
    try:
        page.goto(url)
        page.set_input_files("#files", str(photos["dent"]))
        expect(page.locator("#verdict .badge.busy")).to_contain_text("Looking")
        page.evaluate(
            "id => fetch(`/v1/claims/${id}/cancel`, {method: 'POST'})", page.locator("#verdict .id").inner_text()
        )
        expect(page.locator("#verdict")).to_contain_text("The claim was stopped.")
    finally:
        fakes.classifier.problem = None
    expect(page.locator("#findings")).to_contain_text("stopped before this photo was looked at")
    expect(page.locator(".strip .tag")).to_have_text("Canceled")


def test_parts_are_listed_with_the_damages_names_for_people(page: Page, url: str, photos: dict[str, Path]) -> None:
    submit(page, url, photos["dent"])
    told = page.evaluate(
        "async () => { const { verdict } = await import('/page/findings.js');"
        "const claim = await (await fetch('/v1/claims/' + document.querySelector('#verdict .id').textContent)).json();"
        "claim.summary.parts[0].damages = ['missingpart'];"
        "Object.assign(claim.photos[0].findings[0], { damage: 'missingpart', display: 'Missing part' });"
        "return verdict(claim).map((node) => node.textContent).join(); }"
    )
    assert "Front left door missing part" in told


def test_a_refused_upload_says_what_to_send_instead(page: Page, url: str, photos: dict[str, Path]) -> None:
    page.goto(url)
    page.set_input_files("#files", str(photos["text"]))
    expect(page.get_by_role("alert")).to_contain_text("Send JPEG, PNG, WebP or HEIC")
    expect(page.locator("#drop")).to_be_visible()


def test_photos_dropped_during_an_upload_wait_for_their_turn(page: Page, url: str, photos: dict[str, Path]) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.goto(url)
    page.route("**/v1/claims", hold)
    page.set_input_files("#files", str(photos["dent"]))
    expect(page.locator("#verdict")).to_contain_text("Sending 1 photo.")
    until(page, lambda: held)  # what is drawn does not say that it was sent
    page.set_input_files("#files", [str(photos["mud"]), str(photos["dent"])])
    expect(page.get_by_role("alert")).to_contain_text("still being sent")
    expect(page.locator("#verdict")).to_contain_text("Sending 1 photo.")
    page.wait_for_timeout(100)  # in which another request would have come
    assert len(held) == 1
    page.route("**/v1/claims", lambda route: route.continue_())  # from here on, before the held one brings another
    held[0].continue_()
    expect(page.locator(".card")).to_contain_text("Dent")
    expect(page.get_by_role("alert")).to_be_hidden()
    page.unroute("**/v1/claims")


def test_a_claim_that_was_left_draws_nothing_over_the_next(
    page: Page, url: str, photos: dict[str, Path], fakes: Fakes
) -> None:
    fakes.classifier.problem = NotReady("The classifier cannot be reached")
    try:
        page.goto(url)
        page.set_input_files("#files", str(photos["dent"]))
        expect(page.locator("#verdict .badge.busy")).to_contain_text("Looking")
        first = page.locator("#verdict .id").inner_text()
        page.set_input_files("#files", str(photos["mud"]))
        expect(page.locator("#verdict .id")).not_to_have_text(first)
        expect(page.locator("#verdict .badge.busy")).to_contain_text("Looking")
    finally:
        fakes.classifier.problem = None
    expect(page.locator("#verdict")).to_contain_text("No damage was found on any photo")
    page.evaluate(
        "id => fetch(`/v1/claims/${id}?wait=30`).then(() => new Promise((end) => setTimeout(end, 300)))", first
    )
    expect(page.locator("#verdict")).to_contain_text("No damage was found on any photo")


def test_the_memory_of_photos_that_are_shown_no_more_is_given_back(
    page: Page, url: str, photos: dict[str, Path]
) -> None:
    submit(page, url, photos["dent"])
    page.evaluate(
        "() => { const give = URL.revokeObjectURL; window.given = [];"
        "URL.revokeObjectURL = (url) => { given.push(url); give(url); }; }"
    )
    shown = page.locator(".strip img").get_attribute("src")
    page.set_input_files("#files", str(photos["mud"]))
    expect(page.locator("#verdict")).to_contain_text("No damage was found on any photo")
    assert page.evaluate("given") == [shown]


@pytest.mark.parametrize(
    ("share", "told"), [(1, "100 %"), (0.998, ">99 %"), (0.984, "98 %"), (0.01, "1 %"), (0.004, "<1 %"), (0, "0 %")]
)
def test_nearly_sure_is_never_shown_as_sure(page: Page, url: str, share: float, told: str) -> None:
    page.goto(url)
    assert page.evaluate("share => import('/page/dom.js').then(({ percent }) => percent(share))", share) == told


def test_what_only_looks_like_damage_is_said_to_be_none(page: Page, url: str, photos: dict[str, Path]) -> None:
    submit(page, url, photos["mud"])
    expect(page.locator("#findings")).to_contain_text("Looks like damage but is none: mud")
    expect(page.locator("#verdict")).to_contain_text("No damage was found on any photo")


def test_a_claim_can_be_opened_again_by_its_address_and_from_the_list(
    page: Page, url: str, photos: dict[str, Path]
) -> None:
    submit(page, url, photos["dent"])
    page.reload()
    expect(page.locator(".card")).to_contain_text("Dent")
    page.goto(url)
    page.locator("#recent-list a").first.click()
    expect(page.locator(".card")).to_contain_text("Dent")


def test_an_unknown_claim_is_a_clear_message(page: Page, url: str) -> None:
    page.goto(f"{url}/?claim=clm_nothing")
    expect(page.get_by_role("alert")).to_contain_text("There is no such claim")


def test_the_photo_is_zoomed_and_moved_by_keyboard(page: Page, url: str, photos: dict[str, Path]) -> None:
    submit(page, url, photos["dent"])
    stage, sheet = page.locator(".stage"), page.locator(".sheet")
    stage.focus()
    before = sheet.bounding_box()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    after = sheet.bounding_box()
    assert before and after and after["width"] > 1.4 * before["width"]
    page.keyboard.press("0")
    assert sheet.bounding_box() == before


def test_a_finding_and_its_outline_light_up_together(page: Page, url: str, photos: dict[str, Path]) -> None:
    submit(page, url, photos["dent"])
    page.locator(".card").focus()
    expect(page.locator(".sheet polygon.lit")).to_have_count(1)


def test_the_file_choice_is_reached_and_named_by_keyboard(page: Page, url: str) -> None:
    page.goto(url)
    for _ in range(6):  # what comes before it: skip, home, and on a wide screen three more
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "files":
            break
    assert page.evaluate("document.activeElement.id") == "files"
    expect(page.get_by_label("Drop photos here, or choose them")).to_have_count(1)


def test_nothing_is_wider_than_the_screen(page: Page, url: str, photos: dict[str, Path]) -> None:
    submit(page, url, photos["dent"], photos["mud"])
    page.get_by_text("Why").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_claim_fills_in_once_a_lost_model_is_back(
    page: Page, url: str, photos: dict[str, Path], fakes: Fakes
) -> None:
    fakes.classifier.problem = NotReady("The classifier cannot be reached")
    try:
        page.goto(url)
        page.set_input_files("#files", str(photos["dent"]))
        expect(page.locator("#verdict .badge.busy")).to_contain_text("Looking")
    finally:
        fakes.classifier.problem = None
    expect(page.locator(".card")).to_contain_text("Dent")
