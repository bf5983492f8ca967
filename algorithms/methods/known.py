# SPDX-License-Identifier: Apache-2.0
"""The registry of methods, apart from what an entry is: names can be listed without loading anything heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgegen.envs.core.registry import Registry

if TYPE_CHECKING:
    from edgegen.algorithms.methods.registry import Method

_SHIPPED = ("ladts", "t2drl", "fleet")

METHODS: Registry[Method] = Registry("method", {name: f"edgegen.algorithms.methods.{name}:METHOD" for name in _SHIPPED})
"""Methods by name."""
