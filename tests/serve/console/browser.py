# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium for tests, and what pages in it have to keep to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

PATIENCE_MS = 30_000
"""A browser on a busy machine of two cores."""
DESKTOP, PHONE, NARROW = (1360, 1000), (390, 844), (320, 640)
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
FAILED_ANSWER = "Failed to load resource"
"""How Chromium itself begins to tell, in the console, of an answer that is an error or does not come."""

expect.set_options(timeout=PATIENCE_MS)


def chromium() -> str | None:
    """Path of a Chromium on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


needs_chromium = pytest.mark.skipif(chromium() is None, reason="there is no Chromium here; .ci/services installs it")


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start a browser for the length of a block."""
    with sync_playwright() as playwright:
        # Its own sandbox needs rights that root in a container does not have.
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(
    browser: Browser, url: str, size: tuple[int, int] = DESKTOP, refusals: int = 0, **options: Any
) -> Iterator[Page]:
    """Open the console, and check at the end that nothing went wrong in it.

    Args:
        browser: Where.
        url: Of the service.
        size: Width and height of the window.
        refusals: Answers that may be errors.
        options: Further options of the browser's context.
    """
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    refused: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            (refused if message.text.startswith(FAILED_ANSWER) else wrong).append(message.text)

    def stay(request: Request) -> None:
        if not request.url.startswith((url, "blob:")):
            wrong.append(f"asks {request.url}")

    page.on("console", note)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", stay)
    try:
        page.goto(url)
        yield page
        assert not wrong
        assert len(refused) <= refusals, refused
    finally:
        context.close()


def faults(page: Page) -> list[str]:
    """Faults that axe finds in a page; its policy for scripts does not hold for what the test does to it."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['impact']} {violation['id']}: {violation['help']}: {node['html'][:120]} {node['failureSummary']}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]
