"""The pages of `recurate serve` in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.browser import CHROMIUM
from helpers.pages import (
    PHONE,
    WORDS,
    Served,
    Visitor,
    chromium,
    images,
    lines,
    points,
    texts,
)

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

Visit = Callable[..., Visitor]
LIMIT = 100_000  # bytes of a page with its styles and scripts
CODE = re.compile(r"^[0-9A-F]{10}$")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """Return a function that opens a window of a person's own; nothing may go wrong in any."""
    open_now: list[Visitor] = []

    def visited(served: Served, **context: Any) -> Visitor:
        open_now.append(Visitor(browser, served, **context))
        return open_now[-1]

    yield visited
    for visitor in open_now:
        visitor.close()
    for visitor in open_now:
        visitor.check()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def of_texts(place: Path) -> Iterator[Served]:
    """Serve one long and two short texts to anybody who agrees, with instructions."""
    candidates = [WORDS * 40, "two " + "y" * 300, "three"]
    rows = [{"prompt": f"Question {i}", "candidates": [f"{i} {c}" for c in candidates]} for i in range(6)]
    source = lines(place / "texts" / "texts.jsonl", rows)
    (place / "consent.md").write_text("## Consent\n\nYour picks are kept *without* your name.\n")
    (place / "instructions.md").write_text("Look at each.\n\n- Read all.\n- Then pick.\n")
    told = ("--consent", place / "consent.md", "--instructions", place / "instructions.md")
    with Served(source, "--open", "--seats", 50, *told, "--answers", "pick,tie,bad,skip,ranking") as served:
        yield served


@pytest.fixture(scope="module")
def of_images(place: Path) -> Iterator[Served]:
    with Served(images(place / "images", 4), "--open", "--seats", 50) as served:
        yield served


@pytest.fixture(scope="module")
def of_points(place: Path) -> Iterator[Served]:
    source = points(place / "points", 4)
    options = ("--show", "x,y", "--k", 2, "--limit", 1)
    with Served(source, "--open", "--seats", 50, *options) as served:
        yield served


# --- whole sessions -------------------------------------------------------------------------------


def finish(person: Visitor, total: int) -> None:
    """Check that everything is answered."""
    assert person.count() == f"{total} of {total} (100 %)"
    assert person.page.get_by_role("heading", name="Thank you").is_visible()
    code = person.page.inner_text("#code")
    assert CODE.match(code)
    person.page.reload()
    person.page.wait_for_selector("#done:visible")
    assert person.page.inner_text("#code") == code


@pytest.mark.slow
def test_a_session_with_the_mouse_is_kept_as_it_was_clicked(tmp_path: Path, visit: Visit) -> None:
    """Every kind of answer, a comment, and an answer that is taken back."""
    with Served(texts(tmp_path, 6), "--open") as served:
        person = visit(served).join()
        page, clicked = person.page, {}

        def said(outcome: str, picked: list[str], tied: list[str], act: Callable[[], Any]) -> None:
            clicked[person.question()] = (outcome, picked, tied)
            person.answered(act)

        said("pick", person.shown(2), [], person.pick(2).click)
        said("pick", person.shown(3), [], page.locator(".candidate .body").nth(2).click)
        page.click("#tie")
        person.pick(1).click()
        person.pick(3).click()
        said("tie", [], sorted(person.shown(1, 3)), lambda: page.click("#send"))
        said("bad", [], [], lambda: page.click("#bad"))
        page.select_option("#reason", "It is offensive")
        skipped = person.question()
        said("skip", [], [], lambda: page.click("#skip"))
        page.click("summary:has-text('comment')")
        page.fill("#comment", "Both are <b>good</b>.")
        last = person.question()
        said("pick", person.shown(1), [], person.pick(1).click)
        person.answered(lambda: page.click("#undo"))
        assert person.question() == last
        said("pick", person.shown(2), [], person.pick(2).click)
        finish(person, 6)
        kept = served.exported()
    found = {q: (own["outcome"], own["picked"], sorted(own["tied"])) for q, own in kept.items()}
    assert found == clicked
    assert kept[skipped]["reason"] == "It is offensive"
    assert kept[last]["comment"] == ""  # it went with the answer that was taken back


@pytest.mark.slow
def test_a_session_by_keyboard_alone(tmp_path: Path, visit: Visit) -> None:
    """From the consent to the completion code, without the mouse."""
    (tmp_path / "consent.md").write_text("You may stop at any time.")
    with Served(texts(tmp_path, 5), "--open", "--consent", tmp_path / "consent.md") as served:
        person = visit(served)
        page, clicked = person.page, {}
        page.goto(served.url)
        person.press("Tab", "Space", "Tab", "Enter")
        page.wait_for_selector(".candidate")

        def said(outcome: str, picked: list[str], tied: list[str], *keys: str) -> None:
            clicked[person.question()] = (outcome, picked, tied)
            person.answered(lambda: person.press(*keys))

        seen = person.tab_to("Add a comment")
        reached = ["Pick 1", "Pick 2", "Pick 3", "tie", "bad", "reason", "skip", "Add a comment"]
        assert [s for s in seen if s != "Skip to the candidates"] == reached
        said("pick", person.shown(2), [], "2")
        assert "undo" in person.tab_to("Add a comment")
        said("tie", [], sorted(person.shown(1, 3)), "t", "1", "3", "Enter")
        said("bad", [], [], "b")
        person.answered(lambda: person.press("u"))
        person.press("t", "1", "Escape")
        assert page.get_attribute("#tie", "aria-pressed") == "false"
        said("pick", person.shown(3), [], "3")
        person.tab_to("reason")
        person.press("ArrowDown", "ArrowDown")
        assert page.input_value("#reason") == "I do not understand it"
        skipped = person.question()
        said("skip", [], [], "Tab", "Enter")
        person.tab_to("Pick 2")
        said("pick", person.shown(2), [], "Enter")
        assert person.focused() == "thanks"
        finish(person, 5)
        kept = served.exported()
    found = {q: (own["outcome"], own["picked"], sorted(own["tied"])) for q, own in kept.items()}
    assert found == clicked
    assert kept[skipped]["reason"] == "I do not understand it"


@pytest.mark.slow
def test_picks_outlive_a_server_that_is_killed(tmp_path: Path, visit: Visit) -> None:
    """One pick is kept and its reply lost, the next one is sent while no server is there: once each."""
    with Served(texts(tmp_path, 4), "--open") as served:
        person = visit(served).join()
        person.expected = ("net::ERR",)
        page, clicked = person.page, {}

        def lose(route: Any) -> None:
            assert route.fetch().status == 200
            served.kill()
            route.abort()

        clicked[person.question()] = person.shown(1)
        page.route("**/api/ballots", lose, times=1)
        before = person.count()
        person.pick(1).click()
        page.wait_for_selector("#message:has-text('trying again')")
        assert person.count() == before
        served.start()
        page.wait_for_selector("#count:has-text('1 of 4')")
        clicked[person.question()] = person.shown(2)
        served.kill()
        person.press("2")
        page.wait_for_selector("#message:has-text('trying again')")
        person.press("3", "1")  # nothing happens: an answer is on its way
        served.start()
        page.wait_for_selector("#count:has-text('2 of 4')")
        assert not page.is_visible("#message")
        for _ in range(2):
            clicked[person.question()] = person.shown(3)
            person.answered(person.pick(3).click)
        finish(person, 4)
        kept = served.exported()
    assert {q: own["picked"] for q, own in kept.items()} == clicked


@pytest.mark.slow
def test_the_page_waits_for_a_server_before_the_first_question(tmp_path: Path, visit: Visit) -> None:
    with Served(texts(tmp_path, 2), "--open") as served:
        person = visit(served)
        person.expected = ("net::ERR",)
        person.page.route("**/api/next", lambda route: route.abort(), times=1)
        person.join()
        assert person.count() == "0 of 2 (0 %)"


@pytest.mark.slow
def test_the_page_goes_on_when_the_next_round_is_there(of_texts: Served, visit: Visit) -> None:
    """It asks again by itself, and shows no completion code before the end."""
    person = visit(of_texts)
    waits = {"progress": {"done": 3, "total": 3}, "slate": None, "more": True}
    person.page.route("**/api/next", lambda route: route.fulfill(json=waits), times=2)
    person.page.goto(of_texts.url)
    person.page.check("[name=agree]")
    person.page.click("text=Begin")
    person.page.wait_for_selector("#waiting:visible")
    assert not person.page.is_visible("#done")
    assert person.count() == "3 of 3 (100 %)"
    person.page.wait_for_selector(".candidate")
    assert not person.page.is_visible("#waiting")
    assert person.focused() == "candidates"
    assert sum(url.endswith("/api/next") for url in person.requests) == 3


# --- phones ---------------------------------------------------------------------------------------


def widths(person: Visitor) -> None:
    """Check that nothing reaches beyond the window but in wide tables, and that fingers meet everything."""
    page = person.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    words = page.locator(".body, .prompt")
    assert words.evaluate_all("all => all.every((one) => one.scrollWidth <= one.clientWidth)")
    found = page.locator(":is(button, select, input:not([type=checkbox]), summary, .agree):visible")
    boxes = found.evaluate_all(
        "all => all.map((one) => [one.outerHTML, one.getBoundingClientRect(), one.closest('.wide') !== null])"
    )
    assert boxes
    small = [html for html, box, _ in boxes if box["height"] < 44]
    beyond = [html for html, box, wide in boxes if not wide and not 0 <= box["left"] < box["right"] <= 390]
    assert (small, beyond) == ([], [])


@pytest.mark.slow
def test_a_phone(of_texts: Served, of_images: Served, of_points: Served, visit: Visit) -> None:
    """Everything fits and is large enough; a tap picks; a new question is shown from its top."""
    for served in (of_texts, of_images, of_points):
        person = visit(served, **PHONE)
        person.page.goto(served.url)
        widths(person)
        person.join()
        widths(person)
        person.pick(2).scroll_into_view_if_needed()
        person.answered(person.pick(2).tap)
        widths(person)
        assert person.page.evaluate("scrollY") < 400
    person = visit(of_texts, **PHONE)
    person.join()
    person.page.tap("#tie")
    person.pick(1).tap()
    person.pick(2).tap()
    widths(person)
    person.answered(lambda: person.page.tap("#send"))
    owner = visit(of_texts, **PHONE).login()
    owner.page.tap("text=Make a link")
    owner.page.wait_for_selector("#invitations table")
    widths(owner)


# --- accessibility --------------------------------------------------------------------------------


def accessible(person: Visitor, what: str) -> None:
    assert (what, person.violations()) == (what, {})


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_pages_of_texts(of_texts: Served, visit: Visit, scheme: str) -> None:
    person = visit(of_texts, bypass_csp=True, color_scheme=scheme)
    person.page.goto(of_texts.url)
    accessible(person, "join")
    person.join()
    accessible(person, "texts")
    person.page.click("summary:has-text('comment')")
    person.page.click("#tie")
    person.pick(1).click()
    person.pick(2).click()
    person.page.click("#skip")
    accessible(person, "a tie, a comment and a message")
    person.page.click("#rank")
    person.pick(3).click()
    accessible(person, "a ranking")
    stranger = visit(of_texts, bypass_csp=True, color_scheme=scheme)
    stranger.expected = ("403",)
    stranger.page.goto(of_texts.url + "/join/nothing")
    accessible(stranger, "closed")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_images_and_points(
    of_images: Served, of_points: Served, visit: Visit, scheme: str
) -> None:
    person = visit(of_images, bypass_csp=True, color_scheme=scheme).join()
    accessible(person, "images")
    person.page.get_by_role("button", name="Zoom candidate 1").click()
    accessible(person, "zoom")
    other = visit(of_points, bypass_csp=True, color_scheme=scheme).join()
    accessible(other, "points")
    other.answered(lambda: other.press("1"))
    assert other.page.is_visible("#code")
    accessible(other, "done")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_owners_pages(of_texts: Served, visit: Visit, scheme: str) -> None:
    visit(of_texts).join()
    owner = visit(of_texts, bypass_csp=True, color_scheme=scheme)
    owner.page.goto(of_texts.url + "/owner")
    accessible(owner, "login")
    owner.login()
    owner.page.click("text=Make a link")
    owner.page.wait_for_selector("#link a")
    owner.page.wait_for_selector("#people table")
    accessible(owner, "owner")


# --- orders: rankings, the best and the worst -------------------------------------------------------

FOUR = [f"answer {letter}" for letter in "abcd"]


@pytest.fixture(scope="module")
def of_orders(place: Path) -> Iterator[Served]:
    """Serve four texts to rank, or to name the best and the worst of."""
    rows = [{"prompt": f"Question {i}", "candidates": FOUR} for i in range(8)]
    answers = ("--answers", "pick,skip,ranking,best-worst")
    with Served(lines(place / "orders" / "texts.jsonl", rows), "--open", "--seats", 50, *answers) as served:
        yield served


def kept_of(person: Visitor, act: Callable[[], Any]) -> tuple[str, list[str]]:
    """Return the outcome that an act sends, and the texts of the places."""
    shown = person.shown(*range(1, person.page.locator(".candidate").count() + 1))
    with person.page.expect_request("**/api/ballots") as sent:
        person.answered(act)
    said = sent.value.post_data_json
    return said["outcome"], [shown[place] for place in said["places"]]


def middle(thing: Any) -> tuple[float, float]:
    box = thing.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def by_mouse(person: Visitor, thing: Any, to: tuple[float, float]) -> None:
    mouse = person.page.mouse
    mouse.move(*middle(thing))
    mouse.down()
    mouse.move(*to, steps=6)
    mouse.up()


def by_finger(person: Visitor, thing: Any, to: tuple[float, float]) -> None:
    """Drag with touches as the screen reports them: the browser may take them for scrolling."""
    touch = person.context.new_cdp_session(person.page)
    x, y = middle(thing)

    def at(kind: str, *points: tuple[float, float]) -> None:
        touch.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in points]}
        )

    at("touchStart", (x, y))
    for step in range(1, 7):
        at("touchMove", (x + (to[0] - x) * step / 6, y + (to[1] - y) * step / 6))
    at("touchEnd")
    touch.detach()


def slot(person: Visitor, number: int) -> Any:
    return person.page.locator("#slots li").nth(number - 1)


def grip(person: Visitor, number: int) -> Any:
    """Return where a candidate's card is dragged, in view."""
    found = person.page.locator(".grip").nth(number - 1)
    found.evaluate("one => one.scrollIntoView({ block: 'start' })")
    return found


def order(person: Visitor) -> list[str]:
    """Return the candidates in the tray, as they are numbered."""
    return [words.split()[1] for words in person.page.locator(".chip").all_text_contents()]


def told(person: Visitor) -> str:
    return str(person.page.inner_text("#told"))


Drag = Callable[[Visitor, Any, tuple[float, float]], None]
BY = {"mouse": (by_mouse, {}), "touch": (by_finger, PHONE)}


@pytest.mark.slow
@pytest.mark.parametrize("by", BY)
def test_candidates_are_dragged_into_an_order(of_orders: Served, visit: Visit, by: str) -> None:
    drag, window = BY[by]
    person = visit(of_orders, **window).join()
    page, shown = person.page, person.shown(1, 2, 3, 4)
    page.click("#rank")
    drag(person, grip(person, 3), middle(slot(person, 2)))
    assert told(person) == "Candidate 3 moved to place 1 of 4."  # there are no gaps
    drag(person, grip(person, 2), middle(slot(person, 1)))
    assert (order(person), told(person)) == (["2", "3"], "Candidate 2 moved to place 1 of 4.")
    drag(person, grip(person, 1), middle(slot(person, 4)))
    assert (order(person), told(person)) == (["2", "3", "1"], "Candidate 1 moved to place 3 of 4.")
    drag(person, person.page.locator(".chip").nth(2), middle(slot(person, 1)))
    assert (order(person), told(person)) == (["1", "2", "3"], "Candidate 1 moved to place 1 of 4.")
    drag(person, person.page.locator(".chip").nth(1), (200.0, 30.0))
    assert (order(person), told(person)) == (["1", "3"], "Candidate 2 taken out.")
    drag(person, grip(person, 4), (200.0, 30.0))  # to nowhere
    assert order(person) == ["1", "3"]
    assert page.locator(".dragged, [data-over]").count() == 0
    assert page.locator(".pick:visible").all_inner_texts() == ["Rank 1: 1", "Next: 2", "Rank 2: 3", "Next: 4"]
    if by == "touch":
        widths(person)
    assert person.count().startswith("0 of")
    assert kept_of(person, lambda: page.click("#send")) == ("ranking", [shown[0], shown[2]])


def test_a_ranking_needs_no_dragging(of_orders: Served, visit: Visit) -> None:
    """Clicks alone make every order, and change it."""
    person = visit(of_orders).join()
    shown = person.shown(1, 2, 3, 4)
    person.page.click("#rank")
    for number in (4, 2, 1, 3):
        person.page.click(f".pick:text-is('Next: {number}')")
    assert order(person) == ["4", "2", "1", "3"]
    person.page.locator(".chip").first.click()
    assert (order(person), told(person)) == (["2", "1", "3"], "Candidate 4 taken out.")
    person.page.click(".pick:text-is('Next: 4')")
    assert kept_of(person, lambda: person.page.click("#send")) == (
        "ranking", [shown[1], shown[0], shown[2], shown[3]]
    )  # fmt: skip


def test_a_ranking_by_keys(of_orders: Served, visit: Visit) -> None:
    """Numbers rank, arrow keys move the last one or the one that has the focus, Delete takes it out."""
    person = visit(of_orders).join()
    page, shown = person.page, person.shown(1, 2, 3, 4)
    person.press("r", "3", "1", "ArrowUp")
    assert (order(person), told(person)) == (["1", "3"], "Candidate 1 moved to place 1 of 4.")
    person.press("2", "4", "ArrowLeft")
    assert order(person) == ["1", "3", "4", "2"]
    page.locator(".chip").nth(1).focus()
    person.press("ArrowDown")
    assert (order(person), told(person)) == (["1", "4", "3", "2"], "Candidate 3 moved to place 3 of 4.")
    person.press("ArrowDown", "ArrowDown")  # the focus stays with it, and there is an end
    assert order(person) == ["1", "4", "2", "3"]
    person.press("Delete")
    assert (order(person), told(person)) == (["1", "4", "2"], "Candidate 3 taken out.")
    page.get_by_role("button", name="Rank 3: 2").focus()
    person.press("ArrowUp")
    assert order(person) == ["1", "2", "4"]
    name = "Candidate 2 " + shown[1] + ", place 2 of 4"
    assert person.page.locator(".chip").nth(1).text_content() == name
    person.press("Escape")
    assert not page.is_visible("#tray")
    person.press("r", "2", "1")
    assert kept_of(person, lambda: person.press("Enter")) == ("ranking", [shown[1], shown[0]])


def test_a_drag_that_is_given_up_changes_nothing(of_orders: Served, visit: Visit) -> None:
    person = visit(of_orders).join()
    page = person.page
    page.click("#rank")
    page.mouse.move(*middle(grip(person, 2)))
    page.mouse.down()
    page.mouse.move(*middle(slot(person, 1)), steps=4)
    assert page.locator(".dragged").count() == 1
    person.press("Escape")
    page.mouse.up()
    assert page.locator(".dragged, [data-over], .chip").count() == 0
    assert page.is_visible("#tray")
    by_mouse(person, page.locator(".body").nth(1), middle(slot(person, 1)))  # marks words
    assert order(person) == []


@pytest.mark.slow
def test_images_are_dragged_by_themselves(place: Path, visit: Visit) -> None:
    """Without picks to offer, a question begins with the ranking."""
    with Served(images(place / "ranked", 1), "--open", "--answers", "ranking") as served:
        person = visit(served).join()
        assert not person.page.is_visible("#rank")
        by_mouse(person, person.page.locator(".body").nth(1), middle(slot(person, 1)))
        assert (order(person), told(person)) == (["2"], "Candidate 2 moved to place 1 of 2.")
        person.page.locator(".body").nth(0).click()
        assert order(person) == ["2", "1"]
        assert kept_of(person, lambda: person.page.click("#send"))[0] == "ranking"


@pytest.mark.slow
@pytest.mark.parametrize("by", [*BY, "click", "keys", "tap"])
def test_the_best_and_the_worst(of_orders: Served, visit: Visit, by: str) -> None:
    drag, window = BY["touch" if by == "tap" else by if by in BY else "mouse"]
    person = visit(of_orders, **window).join()
    page, shown = person.page, person.shown(1, 2, 3, 4)
    if by == "keys":
        person.press("w", "2")
        assert page.inner_text("#tray-how") == "Now choose the worst."
        person.press("4")
        assert told(person) == "Candidate 4 is the worst."
        person.press("3")  # another one in its place
        assert order(person) == ["2", "3"]
        person.press("ArrowUp")
        assert order(person) == ["3", "2"]
        person.press("3")
        assert not page.is_visible("#send")
        person.press("1")
        assert order(person) == ["1", "2"]
    elif by in BY:
        page.click("#extremes")
        drag(person, grip(person, 1), middle(slot(person, 2)))
        assert told(person) == "Candidate 1 is the worst."
        drag(person, grip(person, 2), middle(slot(person, 1)))
        assert told(person) == "Candidate 2 is the best."
        drag(person, page.locator(".chip").nth(0), middle(slot(person, 2)))
    else:
        press = (lambda words: page.tap(words)) if by == "tap" else page.click
        press("#extremes")
        press("text='Worst: 2'")
        press("text='Best: 2'")  # one candidate is not both
        assert order(person) == ["2"]
        press("text='Worst: 2'")
        press("text='Best: 1'")
    assert order(person) == ["1", "2"]
    if by in ("touch", "tap"):
        widths(person)
    assert page.locator("[data-worst]").get_attribute("aria-label") == "Candidate 2"
    send = (lambda: person.press("Enter")) if by == "keys" else lambda: page.click("#send")
    assert kept_of(person, send) == ("extremes", [shown[0], shown[1]])


@pytest.mark.slow
def test_the_best_and_the_worst_of_two_is_a_pick(tmp_path: Path, visit: Visit) -> None:
    rows = [{"prompt": "Two", "candidates": FOUR[:2]}, {"prompt": "Three", "candidates": FOUR[:3]}]
    with Served(lines(tmp_path / "t.jsonl", rows), "--open", "--answers", "best-worst") as served:
        person, clicked = visit(served).join(), {}
        for _ in range(2):
            question = person.question()
            assert person.page.is_visible("#tray") == (question == "Three")
            keys = ["2"] if question == "Two" else ["2", "1", "Enter"]
            clicked[question] = kept_of(person, lambda keys=keys: person.press(*keys))
        kept = served.exported()
    assert {q: own["outcome"] for q, own in kept.items()} == {"Two": "pick", "Three": "extremes"}
    assert {q: own["picked"] for q, own in kept.items()} == {q: said[:1] for q, (_, said) in clicked.items()}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_orders(of_orders: Served, visit: Visit, scheme: str) -> None:
    person = visit(of_orders, bypass_csp=True, color_scheme=scheme).join()
    person.press("r", "1")
    accessible(person, "a ranking")
    person.press("w", "1", "3")
    accessible(person, "the best and the worst")
    small = "all => all.filter((one) => one.getBoundingClientRect().height < 24).map((one) => one.outerHTML)"
    assert person.page.locator("button:visible").evaluate_all(small) == []


# --- requests -------------------------------------------------------------------------------------


def test_pages_are_small_and_ask_for_nothing_elsewhere(of_texts: Served, visit: Visit) -> None:
    """What else must not happen, ``visit`` checks in every test: errors on the console among them."""
    person = visit(of_texts)
    sizes: dict[str, int] = {}
    person.page.on("response", lambda r: sizes.update({r.url: len(r.body()) if r.status < 300 else 0}))
    person.join()
    person.page.wait_for_load_state("networkidle")
    first = {url.removeprefix(of_texts.url): size for url, size in sizes.items()}
    print(f"{sum(first.values())} bytes: {first}")
    assert {"/", "/static/people.css", "/static/pick.js"} <= set(first)
    assert sum(first.values()) < LIMIT
    assert len(person.requests) >= 5


# --- what people and files may contain ------------------------------------------------------------

HOSTILE = [
    "<script>document.title = 'ran'; alert(1)</script>",
    "<img src=x onerror=\"document.title = 'ran'; alert(1)\">",
    "[x](javascript:alert(1)) and <javascript:alert(1)> and https://example.org/a",
    "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+) ![y](https://example.org/a.png)",
    "[ref]\n\n[ref]: javascript:alert(1)",
    '<iframe src="javascript:alert(1)"></iframe><a href="javascript:alert(1)">b</a>',
    '"><svg onload=alert(1)> &lt;script&gt;alert(1)&lt;/script&gt; {{title}} {{token}}',
    "</div></main><style>body { display: none }</style>",
]


def test_hostile_texts_are_shown_as_text(tmp_path: Path, visit: Visit) -> None:
    rows = [{"prompt": HOSTILE[0] + HOSTILE[1] + HOSTILE[2], "candidates": HOSTILE}]
    title = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    with Served(lines(tmp_path / "texts.jsonl", rows), "--open", "--title", title) as served:
        person = visit(served).join()
        page = person.page
        page.wait_for_load_state("networkidle")
        assert page.title() == title
        assert page.inner_text("h1") == title
        assert page.locator("main :is(script, img, a, iframe, svg, style)").count() == 0
        body = page.inner_text("main")
        for words in (HOSTILE[0], HOSTILE[1], "[x](javascript:alert(1))", "![x](data:image/svg+xml;base64,"):
            assert words in body
        assert "&lt;script&gt;" not in page.inner_text(".candidates")  # an entity is a sign, as in Markdown
        assert "{{token}}" in body
        assert page.is_visible("#tie")
        owner = visit(served).login()
        owner.page.fill("[name=label]", HOSTILE[1])
        owner.page.click("text=Make a link")
        owner.page.wait_for_selector("#invitations td")
        assert owner.page.inner_text("#invitations td >> nth=0") == HOSTILE[1]
        assert owner.page.title() == f"{title}: owner"


def test_markdown_is_drawn_without_breaking_the_policy(tmp_path: Path, visit: Visit) -> None:
    """Cells of tables are aligned by classes, which the policy allows."""
    table = "| a | b |\n|:--|--:|\n| 1 | 2 |"
    quoted = '```\n<td style="text-align:right">\n```'
    with Served(
        lines(tmp_path / "t.jsonl", [{"prompt": "**p**", "candidates": [table, quoted]}]), "--open"
    ) as served:
        person = visit(served).join()
        cell = person.page.locator("td", has_text="2")
        assert cell.evaluate("cell => getComputedStyle(cell).textAlign") == "right"
        assert person.page.inner_text("pre").strip() == '<td style="text-align:right">'
        assert person.page.inner_text("#prompt strong") == "p"


# --- images and long texts ------------------------------------------------------------------------


def test_images_zoom_and_small_ones_have_pixels(of_images: Served, visit: Visit) -> None:
    person = visit(of_images).join()
    page = person.page
    page.wait_for_function(
        "() => [...document.querySelectorAll('.body img')].every((i) => i.naturalWidth > 0)"
    )
    drawn = page.locator(".body img").evaluate_all(
        "all => all.map((i) => [i.naturalWidth, getComputedStyle(i).imageRendering, i.clientWidth])"
    )
    assert {(w, how) for w, how, _ in drawn} == {(16, "pixelated"), (256, "auto")}
    assert min(width for *_, width in drawn) >= 200
    zoom = page.get_by_role("button", name="Zoom candidate 2")
    closes: list[Callable[[], Any]] = [lambda: person.press("Escape"), lambda: page.click("text=Close")]
    for close in closes:
        zoom.focus()
        person.press("Enter")
        page.wait_for_selector("#zoom[open]")
        assert person.focused() == "unzoom"
        person.press("1", "b", "Tab", "2")  # nothing behind it is reached
        assert page.evaluate("document.activeElement.closest('dialog, body').id") in ("zoom", "")
        close()
        page.wait_for_selector("#zoom", state="hidden")
        assert zoom.evaluate("button => button === document.activeElement")
    assert person.count().startswith("0 of")


def test_long_texts_fold_and_unfold(of_texts: Served, visit: Visit) -> None:
    person = visit(of_texts).join()
    page = person.page
    more = page.get_by_role("button", name=re.compile("Show (all|less) of candidate"))
    more.wait_for()
    assert more.count() == 1  # the short ones beside it do not fold
    text = page.locator(".body", has_text=WORDS.strip())
    low = text.bounding_box()["height"]
    assert more.get_attribute("aria-expanded") == "false"
    more.click()
    assert more.inner_text() == "Show less"
    assert more.get_attribute("aria-expanded") == "true"
    assert text.bounding_box()["height"] > 1.5 * low
    more.click()
    assert text.bounding_box()["height"] == low
    assert person.count().startswith("0 of")


# --- clicks that are not meant --------------------------------------------------------------------


def test_a_double_click_and_a_held_key_answer_once(of_texts: Served, visit: Visit) -> None:
    person = visit(of_texts).join()
    mouse = person.page.mouse
    person.pick(2).hover()
    person.answered(lambda: [mouse.down(), mouse.up()])
    mouse.down(click_count=2)  # the other half of a double click, once the next question is there
    mouse.up(click_count=2)
    person.page.wait_for_load_state("networkidle")
    assert person.count().startswith("1 of")
    person.answered(lambda: [person.page.keyboard.down("1") for _ in range(5)])
    person.page.keyboard.up("1")
    person.page.wait_for_load_state("networkidle")
    assert person.count().startswith("2 of")
    assert sum(url.endswith("/api/ballots") for url in person.requests) == 2


def test_who_marks_words_does_not_pick(of_texts: Served, visit: Visit) -> None:
    person = visit(of_texts).join()
    page = person.page
    box = page.locator(".body p").first.bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + 40, box["y"] + 8)
    page.mouse.up()
    assert page.evaluate("getSelection().toString()") != ""
    person.press("t")  # an answer would be on its way by now
    page.wait_for_load_state("networkidle")
    assert not any(url.endswith("/api/ballots") for url in person.requests)


def test_the_tie_of_one_is_not_sent_and_enter_sends_after_the_mouse(of_texts: Served, visit: Visit) -> None:
    person = visit(of_texts).join()
    person.page.click("#tie")
    person.press("1")
    assert not person.page.is_visible("#send")
    person.press("2")
    person.answered(lambda: person.press("Enter"))


def test_consent_is_asked_for(of_texts: Served, visit: Visit) -> None:
    person = visit(of_texts)
    person.page.goto(of_texts.url)
    person.page.get_by_role("button", name="Begin").click()
    assert person.page.evaluate("document.querySelector('[name=agree]:invalid') !== null")
    assert person.page.url.endswith("/join")
    person.page.evaluate("document.querySelector('[name=agree]').required = false")
    person.expected = ("422",)
    person.page.get_by_role("button", name="Begin").click()
    person.page.wait_for_selector("text=only if you agree")


# --- the owner ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_owner_invites_and_sees_the_answers(tmp_path: Path, visit: Visit) -> None:
    """A link that is made there lets a person in by another browser, and progress comes by itself."""
    with Served(texts(tmp_path, 3)) as served:
        owner = visit(served)
        owner.expected = ("403",)
        owner.page.goto(served.url + "/owner")
        owner.page.fill("#password", "not the password")
        owner.press("Enter")
        owner.page.wait_for_selector("text=That is not the password")
        owner.login()
        owner.page.fill("[name=label]", "friends")
        owner.page.fill("[name=places]", "1")
        owner.page.click("text=Make a link")
        link = owner.page.inner_text("#link a")
        assert link.startswith(served.url + "/join/")
        person = visit(served).join(link.removeprefix(served.url))
        for _ in range(2):
            person.answered(person.pick(1).click)
        owner.page.wait_for_selector("#rounds td:has-text('1 missing')")
        owner.page.wait_for_selector("#people td:has-text('person 1')")
        delete = owner.page.get_by_role("button", name="Delete all data of person 1")
        delete.focus()
        person.answered(person.pick(3).click)
        finish(person, 3)
        owner.page.wait_for_selector("#rounds td:has-text('complete')")
        assert owner.page.inner_text("#people code") == person.page.inner_text("#code")
        assert delete.evaluate("button => button === document.activeElement")
        for ending in ("parquet", "jsonl", "csv"):
            with owner.page.expect_download() as found:
                owner.page.click(f"a[href$={ending}]")
            assert found.value.suggested_filename == f"picks.{ending}"
            assert Path(found.value.path()).stat().st_size > 100
        person.press("u")
        owner.page.wait_for_selector("#rounds td:has-text('1 missing')")
        stranger = visit(served)
        stranger.expected = ("403", "404")  # of the refusal, and of an icon that it does not name
        stranger.page.goto(link)
        stranger.page.get_by_role("button", name="Begin").click()
        stranger.page.wait_for_selector("text=no place left")
        owner.page.once("dialog", lambda dialog: dialog.accept())
        owner.page.remove_listener("dialog", owner._asked)
        delete.click()
        owner.page.wait_for_selector("#people:has-text('Nobody yet')")
        owner.page.get_by_role("button", name="Revoke friends").click()
        owner.page.wait_for_selector("#invitations td:has-text('revoked')")


def test_the_owner_sees_the_temperature_and_groups(of_texts: Served, visit: Visit) -> None:
    """Whatever the fit says: with one reward a temperature, with two groups their shares, or neither."""
    term = {"name": "reward", "value": 2.0, "low": -1.0, "high": 4.0}
    groups = {"two": True, "gain": 0.1, "error": 0.012, "shares": [0.625, 0.375], "names": ["reward"]}
    fit = {
        "coefficients": [term],
        "words": "Luce describes the picks.",
        "temperature": {"value": 0.5, "low": 0.25, "high": None},
        "groups": groups | {"coefficients": [[2.5], [-0.5]]},
    }
    owner = visit(of_texts).login()
    page = owner.page
    state = page.request.get(of_texts.url + "/owner/state").json()
    page.route("**/owner/state", lambda route: route.fulfill(json=state | {"fit": fit}))
    page.reload()
    page.wait_for_selector("#fit table >> nth=1")
    assert "Temperature: 0.5 (95 % interval 0.25 to infinity)" in page.inner_text("#fit")
    assert "Two groups of people predict better than one (0.1 nats" in page.inner_text("#fit")
    assert page.locator("#fit table").nth(1).locator("th").all_inner_texts() == [
        "Reward", "Group 1: 63 % of people", "Group 2: 38 % of people",
    ]  # fmt: skip
    assert page.locator("#fit table").nth(1).locator("td").all_inner_texts() == ["reward", "2.5", "-0.5"]
    fit["groups"], fit["temperature"] = groups | {"two": False, "gain": -0.01}, None
    page.wait_for_selector("#fit:has-text('do not predict better than one (-0.01 nats')")
    assert page.locator("#fit table").count() == 1
    assert "Temperature" not in page.inner_text("#fit")


def test_a_text_that_is_cut_says_so(tmp_path: Path, visit: Visit) -> None:
    rows = [{"prompt": "p", "candidates": ["x" * 120_000, "short"]}]
    with Served(lines(tmp_path / "t.jsonl", rows), "--open") as served:
        person = visit(served).join()
        person.page.get_by_role("button", name=re.compile("Show all of candidate")).click()
        assert person.page.inner_text(".cut") == "… cut after 100,000 characters"


@pytest.mark.slow
def test_two_studies_on_one_host_leave_each_other_alone(tmp_path: Path, visit: Visit) -> None:
    """A browser sends the cookies of one port to the other."""
    with (
        Served(texts(tmp_path / "a", 2), "--open") as one,
        Served(texts(tmp_path / "b", 2), "--open") as other,
    ):
        person = visit(one).join()
        person.answered(person.pick(1).click)
        person.page.goto(other.url)
        person.page.get_by_role("button", name="Begin").click()
        person.page.wait_for_selector(".candidate")
        assert person.count().startswith("0 of")
        person.requests.clear()
        person.page.goto(one.url)
        person.page.wait_for_selector(".candidate")
        assert person.count().startswith("1 of")
