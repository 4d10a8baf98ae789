"""The page in a real Chromium: every view is drawn, and nothing that a model wrote does anything."""

import shutil
from collections.abc import Iterator

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VIEWS = ("learning", "time", "staleness", "beliefs", "rollouts", "prompt?no=1", "rollout?no=2")
DRAWN = "html[data-view]"
MAPS = "sha256-ji27qzEtxXZW"
"""Of the style for maps that plotly.js brings and the policy refuses: the page has no maps."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium in the PATH (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=["wide", "phone"])
def tab(request, browser, page):
    """A tab, with the requests to elsewhere and the errors that it saw."""
    width, scheme = {"wide": (1280, "light"), "phone": (390, "dark")}[request.param]
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab = context.new_page()
    tab.seen = []
    tab.on("request", lambda asked: None if asked.url.startswith((page, "data:")) else tab.seen.append(asked.url))
    tab.on("dialog", lambda dialog: tab.seen.append("dialog") or dialog.dismiss())
    tab.on("pageerror", lambda error: tab.seen.append(str(error)))
    tab.on("console", lambda m: tab.seen.append(m.text) if m.type == "error" and MAPS not in m.text else None)
    yield tab
    context.close()


def test_every_view_is_drawn_in_its_width_and_what_a_model_wrote_stays_text(tab, page):
    for view in VIEWS:
        tab.goto(f"{page}/#/{view}")
        tab.reload()
        tab.wait_for_selector(DRAWN, state="attached")
        if view in VIEWS[:4]:  # a plot is drawn once it is seen
            tab.locator(".card").last.scroll_into_view_if_needed()
            tab.wait_for_selector(".card:last-child .main-svg, .card:last-child .empty")
        else:
            tab.wait_for_selector("#main .said")
        wide = tab.evaluate("() => document.documentElement.scrollWidth > window.innerWidth")
        assert not wide, f"{view} is wider than the window"
        # No element of the page comes from text: the hostile completions hold a script and an image.
        assert tab.locator("#main img, #main script, #main iframe").count() == 0
    assert tab.seen == []
    assert tab.locator("html").get_attribute("data-theme") in ("light", "dark")


def test_a_hostile_completion_is_shown_as_it_is(tab, page):
    tab.goto(f"{page}/#/rollout?no=2")
    text = tab.locator("#tokens").inner_text()
    assert "</script><script>alert(" in text
    assert "U+202E" in text and "\u202e" not in text
    assert tab.seen == []


def test_keys_lead_from_the_first_view_to_a_rollout_and_back(tab, page):
    tab.goto(page)
    tab.wait_for_selector(DRAWN, state="attached")
    tab.keyboard.press("/")
    tab.wait_for_selector("#search:focus")
    tab.keyboard.type("p3")
    tab.keyboard.press("Enter")
    tab.wait_for_function("() => document.querySelectorAll('tr[data-href]').length === 1")
    tab.locator("#main").focus()
    tab.keyboard.press("j")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("html[data-view=prompt]", state="attached")
    tab.wait_for_selector("text=Compare the answers")
    tab.keyboard.press("j")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#tokens")
    tab.keyboard.press("u")
    tab.wait_for_selector("text=Compare the answers")
    tab.locator("summary").click()
    tab.wait_for_selector(".beside .said")
    tab.keyboard.press("t")
    assert tab.seen == []


def test_a_wrong_address_is_told_in_words(tab, page):
    tab.goto(f"{page}/#/prompt?no=99999")
    said = tab.wait_for_selector("text=there is no prompt number 99999")
    assert "there is no prompt number 99999" in said.inner_text()
