# SPDX-License-Identifier: Apache-2.0
"""The page of an episode: whole, without the network, and safe whatever names it shows."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgegen.algorithms.core.catalog import make_policy
from edgegen.envs.core.scenarios import load_scenario
from edgegen.platform.figures.episode_page import episode_page, json_in_html
from edgegen.platform.figures.episode_plot import plot_episode
from edgegen.platform.runs.episode import Episode, play_episode


class Elements(HTMLParser):
    """Elements of a page with their attributes, and the texts inside of them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._open = tag
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open, []).append(data)


@pytest.fixture(scope="module")
def shown() -> Episode:
    world = load_scenario(
        "fleet-8:failing", {"sites": 4, "frames": 3, "frame_s": 10, "refuse_price": 0.05, "load": 1.5}
    )
    return play_episode(world, {rule: make_policy(rule, world) for rule in ("price-greedy", "earliest")}, number=1)


def data_of(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="episode">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_the_page_holds_what_was_recorded(shown: Episode) -> None:
    data = data_of(episode_page(shown))
    assert [policy["label"] for policy in data["policies"]] == ["price-greedy", "earliest"]
    assert data["episode"] == 1
    assert len(data["sites"]) == 4
    for policy, one in zip(data["policies"], shown.played, strict=True):
        tables = {"arrivals": data["arrivals"], "troubles": data["troubles"], **policy}
        for name in ("arrivals", "troubles", "served", "loads", "queues", "residents"):
            for column, values in getattr(one.record, name).items():
                held = np.array([np.inf if value is None else value for value in tables[name][column]])
                np.testing.assert_allclose(held, values, atol=5.1e-5)
    assert data["end_s"] == pytest.approx(max(one.record.end_s for one in shown.played), abs=1e-4)
    assert any(site > 4 for policy in data["policies"] for site in policy["served"]["site"])  # some were refused


def test_the_page_needs_nothing_else(shown: Episode) -> None:
    page = episode_page(shown)
    assert "@@" not in page
    assert not re.search(r"\b(https?|wss?|ftp|data|blob):|url\(|@import|\bimport\(|fetch\(|XMLHttp|WebSocket", page)
    elements = Elements(page).found
    assert {"src", "href", "srcset", "action", "data"} & {name for _, own in elements for name in own} == set()
    assert {"link", "iframe", "img", "object", "base", "form"} & {tag for tag, _ in elements} == set()
    (policy,) = (own["content"] for tag, own in elements if tag == "meta" and "content-security" in str(own).lower())
    assert policy.startswith("default-src 'none';")
    assert "innerHTML" not in page


EVIL = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "@@DATA@@",
    "a\u2028&amp;'\"",
]


@pytest.mark.parametrize("name", EVIL)
def test_names_bring_no_markup(shown: Episode, name: str) -> None:
    plain = Elements(episode_page(shown))
    played = tuple(replace(one, label=name, information=name) for one in shown.played)
    scenario = shown.scenario.model_copy(update={"name": name, "description": name})
    page = episode_page(replace(shown, scenario=scenario, played=played))
    odd = Elements(page)
    assert odd.found == plain.found
    assert "".join(odd.texts["title"]).strip() == f"{name}: episode 1, seed 0"
    data = data_of(page)
    assert [policy["label"] for policy in data["policies"]] == [name, name]
    assert data["scenario"] == data["description"] == name


def test_json_in_html_is_json_and_ends_no_element() -> None:
    text = json_in_html(dict.fromkeys(EVIL, EVIL))
    assert json.loads(text) == dict.fromkeys(EVIL, EVIL)
    assert not set("<>&\u2028") & set(text)
    with pytest.raises(ValueError, match="JSON"):
        json_in_html([float("nan")])


def test_the_picture_is_one_file(shown: Episode, tmp_path: Path) -> None:
    path = tmp_path / "episode.png"
    assert plot_episode(shown, path) == [path] == list(tmp_path.iterdir())
    assert path.read_bytes().startswith(b"\x89PNG")
