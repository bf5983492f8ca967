# SPDX-License-Identifier: Apache-2.0
"""Models and edges as the service describes them to clients."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from edgegen.serve.control.books import Server
from edgegen.serve.model_config import ModelCard


def describe_model(card: ModelCard, servers: Iterable[Server]) -> dict[str, Any]:
    """Describe a model, in the shape of the OpenAI API with an ``edgegen`` part.

    Args:
        card: The model.
        servers: The books of all edges.
    """
    return {
        "id": card.name,
        "object": "model",
        "created": 0,
        "owned_by": "edgegen",
        "edgegen": {
            **card.model_dump(exclude={"name"}),
            "alias_of": None,
            "edges": [server.name for server in servers if card.name in server.models],
        },
    }


def renamed(model: Mapping[str, Any], alias: str) -> dict[str, Any]:
    """Return the description of a model under another name."""
    return {**model, "id": alias, "edgegen": {**model["edgegen"], "alias_of": model["id"]}}


def describe_edge(server: Server, backlog_gcycles: float, previews: bool, models: Collection[str]) -> dict[str, Any]:
    """Describe the state of an edge.

    Args:
        server: Its books.
        backlog_gcycles: Work admitted and not finished, Gcycle.
        previews: Whether it can show what pictures will be.
        models: Those that whoever asks may know of.
    """
    report, in_work = server.report, server.jobs > 0
    return {
        "name": server.name,
        "healthy": server.healthy,
        "reason": server.reason,
        "models": [model for model in server.models if model in models],
        "resident": sorted(server.resident.intersection(models)),
        "queue_length": max(server.jobs - 1, 0),
        "in_work": in_work,
        "backlog_gcycles": backlog_gcycles,
        "capacity_gcycles_s": server.capacity_gcycles_s,
        "rate_mbit_s": server.rate_mbit_s,
        "pictures": report.pictures if report else 0,
        "mean_step_s": report.step_s if report else None,
        "steps_left": report.steps_left if report and in_work else 0,
        "last_error": report.last_error if report else None,
        "pid": report.pid if report else None,
        "previews": previews,
    }
