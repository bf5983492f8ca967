"""The engine that an edge's config names."""

from __future__ import annotations

from collections.abc import Mapping

from edgegen.serve.edge.engines.base import Engine
from edgegen.serve.edge.engines.diffusers import DiffusersEngine
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelCard


def make_engine(edge: EdgeConfig, cards: Mapping[str, ModelCard]) -> Engine:
    """Make the engine of an edge; nothing is loaded yet.

    Args:
        edge: The edge.
        cards: The models that it may hold.
    """
    return DiffusersEngine(edge, cards)
