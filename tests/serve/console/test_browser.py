# SPDX-License-Identifier: Apache-2.0
"""The console in a browser: pictures with previews, the fleet while requests run, faults, keyboard, phone, readers."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from edgegen.serve.http.key_file import KeyFile, new_key
from tests.serve.console.browser import DESKTOP, NARROW, PATIENCE_MS, PHONE, browsing, faults, needs_chromium, visiting
from tests.serve.console.light import MODELS, light_config, running

pytestmark = [pytest.mark.e2e, needs_chromium]

HOSTILE = "<img src=x onerror=window.hit=1><script>window.hit=1</script>"
NOTE = """() => {
    const seen = window.seen = {words: [], previews: [], shares: []};
    const add = (list, value) => value && list.at(-1) !== value && list.push(value);
    new MutationObserver(() => {
        add(seen.words, document.querySelector(".picture .status")?.textContent);
        document.querySelectorAll(".picture .preview img").forEach((image) => add(seen.previews, image.alt));
        const bar = document.querySelector(".picture progress");
        if (bar && bar.position >= 0) add(seen.shares, bar.position);
    }).observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
}"""
"""Notes what a card shows on the way, however short it is there."""


@pytest.fixture(scope="module")
def browser():
    with browsing() as opened:
        yield opened


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    record = {"folder": str(tmp_path_factory.mktemp("record")), "prompts": "text"}
    with running(light_config(record=record)) as light:
        yield light


def ready(page):
    """Wait until the page knows the models and sees the fleet."""
    expect(page.locator("#model option")).to_have_count(len(MODELS))
    expect(page.locator("#health")).to_have_text("all is well")


def test_a_prompt_becomes_previews_and_then_a_picture(browser, service):
    with visiting(browser, service.url) as page:
        ready(page)
        page.fill("#prompt", "hills at dawn")
        page.select_option("#model", "ink")
        page.select_option("#size", "96x128")
        page.fill("#steps", "30")
        page.fill("#seed", "41")
        page.fill("#number", "2")
        page.evaluate(NOTE)
        page.click("#submit")
        card = page.locator(".picture")
        expect(card).to_have_attribute("data-state", "served")
        seen = page.evaluate("window.seen")
        assert [f"Preview of “hills at dawn” after {step} of 30 steps" for step in (8, 15, 22)] == seen["previews"][:3]
        assert re.search(r"edge-\w paints: step \d+ of 60 · \d+ s", "\n".join(seen["words"]))
        assert any(0 < share < 1 for share in seen["shares"])
        pictures = card.locator("img")
        expect(pictures).to_have_count(2)
        assert pictures.evaluate_all("all => all.map(one => [one.alt, one.naturalWidth, one.naturalHeight])") == [
            ["hills at dawn", 96, 128],
            ["hills at dawn", 96, 128],
        ]
        assert not card.locator(".preview").count()
        facts = dict(zip(card.locator("dt").all_inner_texts(), card.locator("dd").all_inner_texts(), strict=True))
        assert (facts["model"], facts["steps"]) == ("ink", "30")
        assert facts["edge"].startswith("edge-")
        assert {"wait", "load", "painting", "whole"} <= set(facts)
        assert card.locator("figcaption span").all_inner_texts() == ["seed 41", "seed 42"]
        expect(page.locator("#said")).to_contain_text("2 pictures of “hills at dawn” finished by edge-")
        with page.expect_download() as download:
            card.locator("a").last.click()
        assert download.value.suggested_filename == "edgegen-ink-42.png"
        assert download.value.path().read_bytes().startswith(b"\x89PNG")
        row = page.locator("#log tr", has_text="hills at dawn")
        expect(row).to_contain_text("served")
        expect(row).to_contain_text("2 times")


def test_the_fleet_is_seen_while_requests_run(browser, service):
    with visiting(browser, service.url) as page:
        ready(page)
        expect(page.locator("#edges .edge")).to_have_count(4)
        before = int(page.locator("#decision-words").inner_text().split()[0])
        sent = [service.paint(model=MODELS[number % 4], num_inference_steps=12) for number in range(12)]
        expect(page.locator("#edges .edge[data-state=busy]").first).to_be_visible()
        expect(page.locator("#queue-words")).not_to_contain_text("0 in work")
        expect(page.locator("#decision-words")).to_have_text(f"{before + 12} in all")
        top = page.locator("#decisions tr").first
        expect(top).to_contain_text("price-greedy")
        expect(page.locator("#happenings li[data-kind=loaded]").first).to_be_visible()
        for thread in sent:
            thread.join(60)
        expect(page.locator("#edges .edge[data-state=busy]")).to_have_count(0)
        assert page.locator("#log tr", has_text="somebody else's hills").count() >= 12
        label = page.locator("#queue-line svg").get_attribute("aria-label")
        assert label is not None
        assert label.startswith("Requests in the service: 0 now, ")
        page.fill("#filter", "edge-c")
        assert page.locator("#edges .edge:visible h4 span:first-child").all_inner_texts() == ["edge-c"]
        expect(page.locator("#who")).to_contain_text("price-greedy")


@pytest.mark.soak
def test_the_view_goes_on_after_a_stream_has_ended_and_stops_where_people_stop_it(browser, service):
    with visiting(browser, service.url) as page:
        ready(page)
        service.drop_viewers()
        service.paint(num_inference_steps=1, prompt="after the end").join(60)
        expect(page.locator("#log tr", has_text="after the end")).to_have_count(1)
        page.click("#pause")
        expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
        service.paint(num_inference_steps=1, prompt="meanwhile").join(60)
        page.wait_for_timeout(2500)
        expect(page.locator("#log tr", has_text="meanwhile")).to_have_count(0)
        page.click("#pause")
        expect(page.locator("#log tr", has_text="meanwhile")).to_have_count(1)


def test_what_is_refused_is_said_in_one_sentence_at_its_field(browser, service):
    with visiting(browser, service.url, refusals=2) as page:
        ready(page)
        page.fill("#prompt", "hills")
        page.fill("#number", "99")
        page.click("#submit")
        expect(page.locator("#form-error")).to_have_text("The field 'n' is 99, but it must be an integer from 1 to 10.")
        expect(page.locator("#number")).to_be_focused()
        expect(page.locator("#number")).to_have_attribute("aria-invalid", "true")
        expect(page.locator(".picture .status")).to_have_text(
            "The field 'n' is 99, but it must be an integer from 1 to 10."
        )
        page.fill("#number", "1")
        expect(page.locator("#form-error")).to_be_empty()
        page.fill("#deadline", "0.01")
        page.click("#submit")
        expect(page.locator("#form-error")).to_contain_text("The field 'deadline_s' leaves 0.0")
        page.fill("#prompt", "  ")
        page.click("#submit")
        expect(page.locator("#prompt")).to_be_focused()


def test_cancelling_stops_the_work(browser, service):
    with visiting(browser, service.url) as page:
        ready(page)
        before = sum(engine.cancelled for engine in service.engines.values())
        page.fill("#prompt", "too long")
        page.fill("#steps", "50")
        page.fill("#number", "4")
        page.click("#submit")
        expect(page.locator(".picture .status")).to_contain_text("paints: step")
        page.click(".picture button")
        expect(page.locator(".picture .status")).to_have_text("Cancelled.")
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while sum(engine.cancelled for engine in service.engines.values()) == before:
            assert time.monotonic() < deadline
            page.wait_for_timeout(50)
        expect(page.locator("#log tr", has_text="too long")).to_contain_text("client left")
        page.click(".picture button")
        expect(page.locator(".picture")).to_have_count(0)


def test_texts_from_outside_stay_texts(browser, service):
    with visiting(browser, service.url) as page:
        ready(page)
        service.paint(prompt=HOSTILE, num_inference_steps=1).join(60)
        page.fill("#prompt", HOSTILE)
        page.fill("#steps", "1")
        page.press("#prompt", "Control+Enter")
        expect(page.locator(".picture")).to_have_attribute("data-state", "served")
        expect(page.locator(".picture h3")).to_have_text(HOSTILE)
        expect(page.locator("#log tr", has_text=HOSTILE)).to_have_count(2)
        assert page.evaluate("window.hit") is None
    page = browser.new_page()
    page.goto(service.url)
    refused = "() => { try { document.body.innerHTML = '<b>x</b>'; } catch (error) { return error.name; } }"
    assert page.evaluate(refused) == "TypeError"
    page.close()


def test_everything_can_be_done_with_the_keyboard(browser, service):
    with visiting(browser, service.url) as page:
        ready(page)

        def focused():
            return page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")

        page.keyboard.press("Tab")
        assert focused() == "Skip to the prompt"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert focused() == "prompt"
        page.keyboard.type("by hand")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".picture")).to_have_attribute("data-state", "served")
        seen = []
        for _ in range(40):
            page.keyboard.press("Tab")
            seen.append(focused())
            ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert ring != "none" or seen[-1] in ("", page.title()), f"no ring around {seen[-1]}"
            if seen[-1] == "edges":
                break
        assert [name for name in seen if name in ("model", "size", "steps", "seed", "deadline", "submit", "edges")] == [
            *("model", "size", "steps", "seed", "deadline", "submit", "edges"),
        ]
        assert {"Remove", "Download", "filter"} <= set(seen)
        page.focus("#open-key")
        page.keyboard.press("Enter")
        assert focused() == "secret"
        page.keyboard.press("Escape")
        assert focused() == "open-key"
        page.locator(".picture button").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".picture")).to_have_count(0)
        assert focused() == "prompt"


@pytest.mark.soak
@pytest.mark.parametrize("size", [PHONE, NARROW], ids=["phone", "narrow"])
def test_a_phone_shows_all_without_moving_sideways(browser, service, size):
    with visiting(browser, service.url, size, has_touch=True, is_mobile=True) as page:
        ready(page)
        page.fill("#prompt", "a prompt of" + " many words" * 20)
        page.fill("#number", "2")
        page.click("#submit")
        expect(page.locator(".picture")).to_have_attribute("data-state", "served")
        expect(page.locator("#edges .edge")).to_have_count(4)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= size[0]
        controls = "[...document.querySelectorAll('button, input, select, textarea, nav a')]"
        heights = f"{controls}.filter(one => one.offsetParent).map(one => one.getBoundingClientRect().height)"
        assert min(page.evaluate(heights)) >= 24


@pytest.mark.soak
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readers_find_no_fault(browser, service, scheme):
    for size in (DESKTOP, PHONE):
        with visiting(browser, service.url, size, color_scheme=scheme, refusals=1, reduced_motion="reduce") as page:
            ready(page)
            page.fill("#prompt", "hills")
            page.fill("#steps", "40")
            page.click("#submit")
            expect(page.locator(".picture .preview").first).to_be_visible()
            assert page.locator("progress").evaluate("bar => getComputedStyle(bar).animationName") == "none"
            assert size == PHONE or not faults(page)  # while it is on its way
            expect(page.locator(".picture").first).to_have_attribute("data-state", "served")
            page.fill("#number", "99")
            page.click("#submit")
            expect(page.locator("#form-error")).not_to_be_empty()
            assert not faults(page)
            if size == PHONE:
                continue
            page.click("#open-key")
            expect(page.locator("#secret")).to_be_visible()
            assert not faults(page)


@pytest.mark.soak
def test_a_key_is_asked_for_and_stays_in_its_tab(browser, tmp_path):
    text, key = new_key("me")
    path = tmp_path / "keys.json"
    path.write_text(KeyFile().with_key(key).text())
    with running(light_config(keys=str(path))) as light, visiting(browser, light.url, refusals=50) as page:
        expect(page.locator("#notice")).to_contain_text("key")
        expect(page.locator("#edges .edge")).to_have_count(0)
        page.click("#open-key")
        page.fill("#secret", text)
        page.press("#secret", "Enter")
        ready(page)
        expect(page.locator("#notice")).to_be_hidden()
        page.fill("#prompt", "hills")
        page.press("#prompt", "Control+Enter")
        expect(page.locator(".picture")).to_have_attribute("data-state", "served")
        assert page.evaluate("[localStorage.length, document.cookie, location.href]") == [0, "", f"{light.url}/"]
        assert page.evaluate("Object.values(sessionStorage)") == [text]
        page.click("#open-key")
        page.click("#forget")
        expect(page.locator("#notice")).to_contain_text("key")
        assert page.evaluate("sessionStorage.length") == 0
