# SPDX-License-Identifier: Apache-2.0
"""What belongs to the request that is being served, in whichever of its tasks."""

from __future__ import annotations

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("edgegen_request_id", default=None)
"""Its id; None outside of requests."""
