# SPDX-License-Identifier: Apache-2.0
"""The console of a whole service on Ray Serve, with real pipelines, while a load test runs."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import expect

from edgegen.platform.ports import free_ports
from edgegen.serve.config import load_config
from edgegen.serve.http.client import demo_prompts, generate_burst
from edgegen.serve.running import running_service
from tests.serve.console.browser import PATIENCE_MS, browsing, needs_chromium, visiting

pytestmark = [pytest.mark.e2e, pytest.mark.soak, needs_chromium]

REQUESTS = 40
PROMPT = "a large red circle in the center"


def look(url, seen_all):
    """Look at the page while others send requests, and until the service has ended."""
    answered = []

    def load():
        answered.extend(generate_burst(url, demo_prompts(REQUESTS), steps=30, concurrency=8))

    with browsing() as browser, visiting(browser, url, refusals=100) as page:
        expect(page.locator("#edges .edge")).to_have_count(3)
        expect(page.locator("#model option")).to_have_count(3)
        loading = threading.Thread(target=load)
        loading.start()
        expect(page.locator("#edges .edge[data-state=busy]").first).to_be_visible()
        page.fill("#prompt", PROMPT)
        page.fill("#steps", "50")
        page.press("#prompt", "Control+Enter")
        preview = re.compile(rf"Preview of “{PROMPT}” after \d+ of 50 steps")
        expect(page.locator(".picture .preview img")).to_have_attribute("alt", preview, timeout=4 * PATIENCE_MS)
        expect(page.locator(".picture")).to_have_attribute("data-state", "served", timeout=4 * PATIENCE_MS)
        decisions, told = page.locator("#decision-words"), set[str]()
        until = time.monotonic() + PATIENCE_MS / 1000
        while len(told) < 4 and time.monotonic() < until:
            told.add(decisions.inner_text())
            page.wait_for_timeout(500)
        assert len(told) >= 4  # as they happen, and not at the end
        expect(page.locator("#who")).to_contain_text("earliest")
        expect(page.locator("#decisions tr").first).to_contain_text(re.compile("agrees|edge-"))
        loading.join()
        assert len(answered) == REQUESTS
        expect(page.locator("#edges .edge[data-state=busy]")).to_have_count(0)
        assert page.locator("#log tr").count() > 5
        assert set(page.locator("#log .prompt").all_inner_texts()) <= {PROMPT, "not shown"}
        seen_all.set()
        expect(page.locator("#health")).to_have_text("not connected", timeout=4 * PATIENCE_MS)
        expect(page.locator("#notice")).to_be_visible()


def test_the_console_shows_a_service_under_load_until_it_ends():
    more = {"gateways": 2, "deadline_s": 120, "max_wait_s": 120, "shadow": "earliest"}
    seen_all = threading.Event()
    # In a thread: while a browser is driven, Serve believes that it is called from an event loop.
    with ThreadPoolExecutor(1) as pool:
        with running_service(load_config("fleet", more), *free_ports(1)) as url:
            looking = pool.submit(look, url, seen_all)
            while not seen_all.wait(0.2) and not looking.done():
                pass
        looking.result()
