# SPDX-License-Identifier: Apache-2.0
"""A trained policy when one of its edges is lost: it goes on deciding, by itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from edgegen.algorithms.core.codec import load_policy, save_policy
from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.methods.configs import LADTSConfig
from edgegen.algorithms.rllib.ray_session import ray_session
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.view import ROUTER
from edgegen.serve.kinds.registry import scenario_of

pytestmark = pytest.mark.e2e

ITERATIONS = 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a policy of preset ``set``, trained for a few seconds on servers and loads of all kinds."""
    world = load_scenario("family:b5", {"slots": 20})
    folder = tmp_path_factory.mktemp("trained") / "policy"
    with ray_session(None):
        config = LADTSConfig().scenario(world).preset("set").debugging(seed=3, log_level="ERROR")
        algorithm = config.build_algo()
        for _ in range(ITERATIONS):
            algorithm.train()
        assert algorithm.updates[ROUTER] > 100
        save_policy(algorithm.policy(0), folder, world, {})
        algorithm.stop()
    return folder


class Untold(Policy):
    """The same policy, without being told which servers are available: only what it is shown may stop it."""

    def __init__(self, inner):
        super().__init__(0)
        self.inner, self.name, self.roles = inner, inner.name, inner.roles

    def begin(self, role, view):
        return self.inner.begin(role, view)

    def act(self, role, view, memory, explore=True):
        return self.inner.act(role, replace(view, available=None), memory, explore)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("lost", ["edge-a", "edge-b", "edge-c"])
@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_trained_policy_goes_on_deciding(in_virtual_time, make_config, trained, lost, told, how):
    async def scenario(service):
        asked = []
        left_gcycles_s = sum(edge.capacity for name, edge in service.edges.items() if name != lost)
        for number in range(120):
            await service.until(number / (0.8 * left_gcycles_s))  # 1 Gcycle each
            if number == 30:
                edge = service.edges[lost]
                edge.stopped = how == "hangs"
                if how == "dies":
                    edge.dead.set()
            if number == 50:
                before = dict(vars(service.scheduler))
            asked.append(service.ask(num_inference_steps=10))
        answers = [answer.json()["edgegen"] for answer in await asyncio.gather(*asked)]
        assert service.scheduler.policy_failures == 0
        later = answers[50:]
        assert lost not in {answer["server"] for answer in later}
        replaced = service.scheduler.fallbacks - before["fallbacks"]
        assert replaced <= 0.05 * len(later)

    config = make_config(stall_timeout_s=6)
    policy = load_policy(trained, scenario_of(config), seed=1)
    in_virtual_time(scenario, config, policy if told else Untold(policy))
