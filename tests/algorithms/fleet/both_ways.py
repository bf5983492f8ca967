# SPDX-License-Identifier: Apache-2.0
"""The same episodes of a fleet twice: turn by turn, and whole in the compiled kernel."""

import numpy as np

from edgegen.algorithms.core.play import measuring, metered, play
from edgegen.algorithms.fleet.policy import FleetPolicy
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.envs.fleet.world import FleetWorld


def check_both_ways(scenario: FleetScenario, policy: FleetPolicy) -> None:
    """Check that a policy decides alike in both."""
    world = FleetWorld(scenario, 6)
    world.reset(5)
    meter = kind_of(scenario).meter(world)
    play(world, policy, watch=measuring(meter))
    turns = meter.values()
    world.reset(5)
    whole = metered(world, policy).values()
    for metric, values in turns.items():
        assert np.array_equal(values, whole[metric], equal_nan=True), metric
