# SPDX-License-Identifier: Apache-2.0
"""Pictures of the console, of a service with embedded models under load: large and small windows, light and dark.

    PYTHONPATH=src python tests/tools/console_pictures.py FOLDER

Writes ``desktop-light.png``, ``phone-dark.png`` and so on. The service is the shipped config ``fleet`` with a shadow.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import ViewportSize, expect

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgegen.platform.ports import free_ports
from edgegen.serve.config import load_config
from edgegen.serve.http.client import demo_prompts, generate_burst
from edgegen.serve.running import running_service
from tests.serve.console.browser import DESKTOP, PHONE, browsing

PROMPTS = ("a large red circle in the center", "a small blue square in the top left")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WINDOWS = {"desktop": DESKTOP, "phone": PHONE}
COLOURS = 256
"""Of a palette: a page has few, and files stay small."""
PATIENCE_MS = 300_000


def take(url: str, folder: Path, load_s: float, whole: bool) -> None:
    """Ask for pictures, wait until there is something to see, and take pictures of all windows."""
    with browsing() as browser:
        for number, (scheme, (name, size)) in enumerate(product(SCHEMES, WINDOWS.items())):
            viewport = ViewportSize(width=size[0], height=size[1])
            page = browser.new_page(viewport=viewport, color_scheme=scheme, device_scale_factor=1)
            page.set_default_timeout(PATIENCE_MS)
            page.goto(url)
            expect(page.locator("#model option")).to_have_count(3)
            page.fill("#prompt", PROMPTS[0])
            page.fill("#number", "2")
            page.fill("#seed", "11")
            page.click("#submit")
            expect(page.locator(".picture")).to_have_attribute("data-state", "served", timeout=PATIENCE_MS)
            if number == 0:
                page.wait_for_timeout(1000 * load_s)
            page.fill("#prompt", PROMPTS[1])
            page.fill("#number", "1")
            page.fill("#steps", "50")
            page.click("#submit")
            expect(page.locator(".preview img").first).to_be_visible(timeout=PATIENCE_MS)
            path = folder / f"{name}-{scheme}.png"
            page.screenshot(path=path, full_page=whole)
            palette = Image.Quantize.MAXCOVERAGE  # keeps the colour of small things
            Image.open(path).convert("RGB").quantize(COLOURS, palette, kmeans=3).save(path, optimize=True)
            print(path)  # noqa: T201
            page.close()


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Take pictures of the console.")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--load-s", type=float, default=100.0, help="how long there is load before the first picture, s"
    )
    parser.add_argument("--whole", action="store_true", help="the whole page, and not the window alone")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    more = {"shadow": "earliest", "deadline_s": 250, "max_wait_s": 250, "decision_budget_s": 1.0}
    with running_service(load_config("fleet", more), *free_ports(1)) as url:
        for model, steps in (("shapes-64", 30), ("digits-64", 20), ("shapes-64-fast", 4)):
            options = {"model": model, "steps": steps, "concurrency": 1}
            threading.Thread(target=generate_burst, args=(url, demo_prompts(1000)), kwargs=options, daemon=True).start()
        # In a thread: while a browser is driven, Serve believes that it is called from an event loop.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(take, url, asked.folder, asked.load_s, asked.whole).result()
    os._exit(0)  # what is under way is nobody's business any more


if __name__ == "__main__":
    main()
