# SPDX-License-Identifier: Apache-2.0
"""An episode as one HTML page that needs nothing else: the data lies in it, and it asks no network."""

from __future__ import annotations

import json
import math
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from edgegen.envs.core.timeline import Columns
from edgegen.platform.runs.episode import Episode, Played

_DECIMALS = 4
"""Digits after the point of what the page holds: a tenth of a millisecond."""


def episode_page(episode: Episode) -> str:
    """Lay an episode out as a page.

    Texts from outside, such as the names of policies, can hold anything: they are data of the page's script, which
    writes them as text.

    Returns:
        The page, whole.
    """
    here = files("edgegen.platform.figures")
    title = f"{episode.scenario.name}: episode {episode.number}, seed {episode.seed}"
    parts = {
        "TITLE": escape(title),
        "STYLE": here.joinpath("episode.css").read_text("utf-8"),
        "DATA": json_in_html(page_data(episode)),
        "SCRIPT": here.joinpath("episode.js").read_text("utf-8"),
    }
    pieces = here.joinpath("episode.html").read_text("utf-8").split("@@")  # text and names of parts in turns
    return "".join(parts[piece] if odd % 2 else piece for odd, piece in enumerate(pieces))


def page_data(episode: Episode) -> dict[str, Any]:
    """Return what a page shows, as plain values; numbers that JSON does not have are None."""
    first = episode.played[0].record
    return {
        "format": "edgegen-episode-1",
        "scenario": episode.scenario.name,
        "description": "" if ":" in episode.scenario.name else episode.scenario.description,  # a variant has none
        "episode": episode.number,
        "seed": episode.seed,
        "duration_s": first.duration_s,
        "end_s": _plain(max(one.record.end_s for one in episode.played)),
        "sites": list(first.sites),
        "models": list(first.models),
        "arrivals": _table(first.arrivals),
        "troubles": _table(first.troubles),
        "policies": [_policy(one) for one in episode.played],
    }


def json_in_html(data: Any) -> str:
    """Write JSON that can stand in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(played: Played) -> dict[str, Any]:
    record = played.record
    tables = {name: _table(getattr(record, name)) for name in ("served", "loads", "queues", "residents")}
    return {"label": played.label, "information": played.information, **tables}


def _table(columns: Columns) -> dict[str, list[Any]]:
    return {name: [_plain(value) for value in np.asarray(values).tolist()] for name, values in columns.items()}


def _plain(value: float) -> float | None:
    if not math.isfinite(value):
        return None
    short = round(value, _DECIMALS)
    return int(short) if short == int(short) else short
