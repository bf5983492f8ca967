# SPDX-License-Identifier: Apache-2.0
"""Small worlds and settings for trainings that take seconds."""

import pytest

from edgegen.algorithms.methods.configs import LADTSConfig
from edgegen.envs.core.scenarios import load_scenario

QUICK = {"hidden": 8, "replay_capacity": 60, "replay_warmup": 8, "batch_size": 16, "copies": 1, "updates_per_slot": 0.5}


@pytest.fixture(scope="session")
def small():
    """An offloading world, slow enough for queues to build up."""
    return load_scenario("demo", {"tasks_per_slot.high": 3, "slots": 6, "capacity_gcycles_s": [1.2, 0.6, 2, 0.8, 3]})


@pytest.fixture(scope="session")
def quick():
    """Settings of LAD-TS for trainings of seconds."""
    return dict(QUICK)


@pytest.fixture(scope="session")
def make_config(small):
    """From preset, seed and settings to a config of LAD-TS in the small world."""

    def make(preset="improved", seed=0, **settings):
        return LADTSConfig().scenario(small).preset(preset, **{**QUICK, **settings}).debugging(seed=seed)

    return make
