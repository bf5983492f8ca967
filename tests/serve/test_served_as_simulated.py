# SPDX-License-Identifier: Apache-2.0
"""The service against its simulation: the same policies on the same requests, served by emulated edges in no time."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from edgegen.algorithms.core.catalog import make_policy
from edgegen.platform.runs.comparison import compare
from edgegen.platform.runs.episodes import evaluation_seed
from edgegen.platform.runs.live_comparison import world_of
from edgegen.serve.config import build_config
from edgegen.serve.load.prompts import prompt_for
from edgegen.serve.load.sending import send_all
from edgegen.serve.load.sequence import sequence_of
from edgegen.serve.load.served import results_of, values_of
from edgegen.serve.model_config import profile_of
from tests.serve.emulated_service import serve_emulated

MODELS = ("shapes-64", "shapes-64-fast", "digits-64")
SPEED = (0.5, 0.25, 1 / 6)
SEQUENCES = 4
FRAME_S = 5.0


def fleet(policy):
    """Three unequal edges with places for two of three models, whose work is that of their profiles."""
    profiles = {model: profile_of(model) for model in MODELS}
    steps = {model: profile.step_s for model, profile in profiles.items() if profile is not None}
    edges = [
        {"name": name, "models": list(MODELS), "memory_gb": 0.03, "engine": "emulated", "speed": speed}
        for name, speed in zip(("edge-a", "edge-b", "edge-c"), SPEED, strict=True)
    ]
    return build_config(
        {
            "kind": "fleet",
            "models": {model: {"cycles_per_step_gcycles": step_s, "max_steps": 50} for model, step_s in steps.items()},
            "edges": edges,
            "policy": policy,
            "slot_s": 0.5,
            "frame_s": FRAME_S,
            "report_period_s": 0.5,
            "deadline_s": 4,
            "max_wait_s": 30,
        }
    )


POLICIES = ["price-greedy", "earliest", "router=affinity cacher=price-greedy allocator=price-greedy"]


@pytest.mark.parametrize("policy", POLICIES)
def test_service_does_what_its_simulation_says(policy):
    served, simulated = both(policy, load=0.5)
    for name, allowed in (("utility", 0.02), ("late_share", 0.02), ("quality", 0.01)):
        assert served[name] == pytest.approx(simulated[name], abs=allowed), name
    assert served["delay_s"] == pytest.approx(simulated["delay_s"], rel=0.1)


@pytest.mark.parametrize("policy", POLICIES)
def test_no_more_is_refused_than_would_be_late(policy):
    served, simulated = both(policy, load=1.0)
    assert simulated["late_share"] > 0.02
    assert served["late_share"] < simulated["late_share"] + 0.01  # those without pictures count as late
    assert served["utility"] > simulated["utility"] - 0.01


@pytest.mark.parametrize("policy", POLICIES)
def test_three_times_the_load_brings_no_less_and_promises_are_kept(policy):
    config, goodput = fleet(policy), {}
    for load in (1.0, 3.0):
        world = world_of(config, SPEED, None, {"load": load, "bursts": None, "frames": 12})
        answers = served(config, world, 0)[1]
        in_time = sum(not answer.is_late for answer in answers)
        # Refused at once is honest; begun, or accepted and dropped, is a promise.
        promised = sum(answer.status != httpx.codes.TOO_MANY_REQUESTS for answer in answers)
        assert in_time >= 0.95 * promised
        goodput[load] = in_time
    assert goodput[3.0] >= 0.95 * goodput[1.0]


def both(policy, load):
    """Means over the same sequences of what was served, and of what was simulated."""
    config = fleet(policy)
    world = world_of(config, SPEED, None, {"load": load})
    simulated = compare(world, {"it": make_policy(policy, world, 0)}, SEQUENCES, 0, "it", explore=False)
    episodes = [served(config, world, number)[0] for number in range(SEQUENCES)]
    names = ("utility", "late_share", "quality", "delay_s")
    means = {name: sum(values[name] for values in episodes) / SEQUENCES for name in names}
    return means, {name: simulated.row("it").results[name].mean() for name in names}


def served(config, world, number):
    """What an episode of the world is worth when the service has it, by measure, and the answers."""
    sequence = sequence_of(world, config.homes, MODELS, prompt_for, evaluation_seed(0), number)
    answers = []

    async def scenario(_edges, client):
        await asyncio.sleep(2 * FRAME_S)  # the cachers have decided, and what they want is there
        answers.extend(await send_all(client, sequence, asyncio.get_running_loop().time))

    serve_emulated(scenario, config)
    return {name: one[0] for name, one in values_of(sequence, results_of(sequence, answers)).items()}, answers
