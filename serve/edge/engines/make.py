# SPDX-License-Identifier: Apache-2.0
"""The engine that an edge's config names, and what it needs before anything is started."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from edgegen.serve.edge.engines.base import Engine
from edgegen.serve.edge.engines.diffusers import DiffusersEngine
from edgegen.serve.edge.engines.emulated import EmulatedEngine
from edgegen.serve.edge.engines.remote import RemoteEngine
from edgegen.serve.edge_config import EdgeConfig
from edgegen.serve.model_config import ModelCard


def make_engine(
    edge: EdgeConfig, cards: Mapping[str, ModelCard], clock: Callable[[], float] = time.monotonic
) -> Engine:
    """Make the engine of an edge; nothing is loaded yet.

    Args:
        edge: The edge.
        cards: The models that it may hold.
        clock: Monotonic time, s.

    Raises:
        InputError: If something that it needs is not there.
    """
    if edge.engine == "remote":
        return RemoteEngine(edge, cards)
    if edge.engine == "emulated":
        return EmulatedEngine(edge, cards, clock)
    return DiffusersEngine(edge, cards)


def check_engine(edge: EdgeConfig, cards: Mapping[str, ModelCard]) -> None:
    """Refuse an edge whose engine lacks something that can be told without starting it.

    Args:
        edge: The edge.
        cards: The models that it may hold.

    Raises:
        InputError: If the address of a remote service is none, its key is not set, or a model to emulate has no
            profile.
    """
    if edge.engine != "diffusers":
        make_engine(edge, cards)
