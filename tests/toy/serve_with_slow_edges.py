# SPDX-License-Identifier: Apache-2.0
"""Serves the toy world of a config with edges that take their time: what became of five requests, as JSON."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from edgegen_toy.method import BanditPolicy, BanditSpec, make_network

from edgegen.algorithms.core.codec import save_policy
from edgegen.serve.config import load_config
from edgegen.serve.kinds.registry import scenario_of, training_scenario
from tests.serve.slow_edges import Service, serve_slowly


async def five(service: Service) -> None:
    asked = []
    for number in range(5):
        await service.until(number / 10)
        asked.append(service.ask(edge="edge-b"))
    answers = [answer.json()["edgegen"] for answer in await asyncio.gather(*asked)]
    health = (await service.client.get("/healthz")).json()
    done[health["policy"]["name"]] = {
        "servers": [answer["server"] for answer in answers],
        "fallbacks": [answer["fallback"] for answer in answers],
        "decisions": health["policy"]["decisions"],
        "waits_s": [round(answer["total_s"], 1) for answer in answers],
    }


if __name__ == "__main__":
    done: dict[str, Any] = {}
    config = load_config(sys.argv[1])
    scenario = scenario_of(config)
    save_policy(BanditPolicy(make_network(), BanditSpec(sharpness=1.0)), Path("bandit"), scenario, {})
    for policy in ("shortest", "dispatcher=coin", "bandit"):
        serve_slowly(five, load_config(sys.argv[1], {"policy": policy}))
    done["speeds"], done["trains in the same"] = scenario.speeds, training_scenario(config) == scenario
    sys.stdout.write(json.dumps(done))
