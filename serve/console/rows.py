# SPDX-License-Identifier: Apache-2.0
"""An edge server as the console shows it, from its books."""

from __future__ import annotations

from typing import Any

from edgegen.serve.control.books import Server
from edgegen.serve.control.jobs import LOAD


def edge_row(server: Server, now: float) -> dict[str, Any]:
    """Describe the state of an edge.

    Args:
        server: Its books.
        now: Clock reading, s.
    """
    report, jobs = server.report, server.jobs
    expected = None if report is None else report.expected
    return {
        "name": server.name,
        "cloud": server.cloud,
        "healthy": server.healthy,
        "reason": server.reason,
        "models": server.models,
        "resident": sorted(server.resident),
        "expected": sorted(server.resident if expected is None else expected),
        "loading": [] if report is None else loading(report.remaining_gcycles),
        "waiting": max(jobs - 1, 0),
        "in_work": jobs > 0,
        "wait_s": round(server.wait_s(now), 1),
        "capacity_gcycles_s": _significant(server.capacity_gcycles_s),
        "pictures": 0 if report is None else report.pictures,
    }


def changes(row: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return what differs from an earlier description of the same edge, with its name; empty if nothing does."""
    different = {name: value for name, value in row.items() if value != before[name]}
    return {"name": row["name"], **different} if different else {}


def loading(remaining: tuple[tuple[str, float], ...]) -> list[str]:
    """Return the models whose loads are among the work left of an edge."""
    return [name.removeprefix(LOAD) for name, _ in remaining if name.startswith(LOAD)]


def _significant(value: float) -> float:
    """Round to what a person reads: measured capacities change in every report by less than that."""
    return float(f"{value:.3g}")
