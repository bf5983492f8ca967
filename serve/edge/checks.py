# SPDX-License-Identifier: Apache-2.0
"""What can be wrong between the edges of a service and its models: refused before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgegen.envs.core.errors import InputError
from edgegen.serve.edge.engines.make import check_engine
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelCard
from edgegen.serve.zoo.loading import parts_of

SPARE_GB = 1e-9
"""What sums may exceed a bound by, because they are inexact."""


def check_edges(edges: Sequence[EdgeConfig], cards: Mapping[str, ModelCard]) -> None:
    """Refuse edges that can not hold what they are to hold.

    Args:
        edges: The edges.
        cards: The models by name.

    Raises:
        InputError: If an engine lacks something that it needs, a part that is to be left out does not exist, the size
            of a model is not known where memory is bounded, what is pinned leaves no room for itself or for another
            model, or a process that edges share is called like an edge.
    """
    for model, card in cards.items():
        parts = parts_of(model)
        for part in card.without:
            if parts is not None and part not in parts:
                known = ", ".join(sorted(parts))
                raise InputError(f"Models: without of '{model}' names '{part}', but its parts are {known}.")
    _check_processes(edges)
    for edge in edges:
        check_engine(edge, {model: cards[model] for model in edge.all_models})
        if edge.memory_gb is not None:
            _check_memory(edge, edge.memory_gb, cards)


def _check_processes(edges: Sequence[EdgeConfig]) -> None:
    for edge in edges:
        if any(other.name == edge.process for other in edges):
            raise InputError(f"Edges: process of '{edge.name}' is '{edge.process}', but that is the name of an edge.")


def _check_memory(edge: EdgeConfig, memory_gb: float, cards: Mapping[str, ModelCard]) -> None:
    who = f"edge '{edge.name}' has memory_gb {memory_gb:g}"
    for model in edge.all_models:
        if not cards[model].size_gb:
            raise InputError(
                f"Models: size_gb of '{model}' is missing, and it has no profile; it is needed because {who}."
            )
    pinned_gb = sum(cards[model].size_gb for model in edge.pinned)
    if pinned_gb > memory_gb + SPARE_GB:
        names = ", ".join(f"'{model}'" for model in edge.pinned)
        raise InputError(f"Edges: {who}, but its pinned models ({names}) take {pinned_gb:g} GB together.")
    for model in edge.all_models:
        size_gb = cards[model].size_gb
        if model not in edge.pinned and pinned_gb + size_gb > memory_gb + SPARE_GB:
            pins = f" beside {pinned_gb:g} GB that are pinned" if edge.pinned else ""
            raise InputError(f"Edges: {who}, but the model '{model}', which it may hold, takes {size_gb:g} GB{pins}.")
