# SPDX-License-Identifier: Apache-2.0
"""A sweep over one step size in a small world, of which tests say how it searches, and for how long."""

from typing import Any

SMALL: dict[str, Any] = {
    "algorithm": "ladts",
    "scenario": "demo",
    "overrides": {"slots": 4, "tasks_per_slot.high": 2},
    "settings": {"copies": 2, "replay_warmup": 8, "batch_size": 8},
    "space": {"actor_lr": {"log_uniform": [1e-4, 1e-2]}},
    "validation": {"episodes": 2},
    "retrain": {"seeds": [7], "control": False},
    "evaluation": {"episodes": 2, "tuned": False},
}
