# SPDX-License-Identifier: Apache-2.0
"""A request as the console's log has it: who made the pictures and how long everything took, or why there are none."""

from __future__ import annotations

from typing import Any

from edgegen.serve.record.row import Noted

_DECIMALS = 4


def request_row(number: int, noted: Noted, prompts: bool) -> dict[str, Any]:
    """Describe a request that has ended.

    Neither its key nor its id is told, since who knows them may fetch the pictures, nor who sent it.

    Args:
        number: Its number among those of the gateway.
        noted: What is known of it.
        prompts: Whether the prompt is told.
    """
    job, made = noted.job, noted.made
    outcome, reason = noted.outcome
    row = {
        "number": number,
        "at": round(noted.arrival_s + noted.total_s, 3),
        "outcome": outcome,
        "reason": reason,
        "model": job.model,
        "size": f"{job.width}x{job.height}",
        "pictures": len(job.seeds),
        "seed": job.seeds[0],
        "home": job.home,
        "total_s": round(noted.total_s, _DECIMALS),
        "prompt": job.prompt if prompts else None,
    }
    if made is None:
        return row
    return row | {
        "edge": made.edge,
        "steps": job.steps if made.steps is None else made.steps,
        "queue_s": round(made.queue_s, _DECIMALS),
        "load_s": round(made.load_s, _DECIMALS),
        "generation_s": round(made.generation_s, _DECIMALS),
        "fallback": made.fallback,
    }
