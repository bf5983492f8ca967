# SPDX-License-Identifier: Apache-2.0
"""The part of Ray Serve that is not public and is needed: the controller that a process remembers."""

from __future__ import annotations

from ray.serve import context


def forget_controller() -> None:
    """Let Serve look for its controller anew: it remembers one, though the Ray session that it was in has ended."""
    context._set_global_client(None)
