# SPDX-License-Identifier: Apache-2.0
"""Plays the toy world through PettingZoo, in both forms, and lets PettingZoo test them."""

import sys
import warnings
from functools import partial

from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test

from edgegen.envs import pettingzoo

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # hints at observations without bounds
    sys.stdout, shown = sys.stderr, sys.stdout
    make, in_turn = (partial(form, scenario=sys.argv[1]) for form in (pettingzoo.parallel_env, pettingzoo.env))
    parallel_api_test(make(), num_cycles=30)
    parallel_seed_test(make, num_cycles=5)
    api_test(in_turn(), num_cycles=30)
    seed_test(in_turn, num_cycles=5)
    env = make()
    (agent,) = env.possible_agents
    shown.write(f"{[agent]} {env.observation_space(agent).shape} {env.action_space(agent)}\n")
    env.reset(seed=0)
    waits, rounds = [], 0
    while env.agents:
        rewards = env.step({agent: rounds % 2})[1]
        waits.append(-rewards[agent])
        rounds += 1
    shown.write(f"{rounds} {sum(wait >= 0 for wait in waits)}\n")
