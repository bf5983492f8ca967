# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.algorithms.rules.offloading import make_rule
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.core.seeds import MAX_SEED
from edgegen.envs.offloading.world import OffloadingWorld
from edgegen.platform.runs import episodes
from edgegen.platform.runs.episodes import evaluation_seed
from edgegen.platform.runs.evaluation import evaluate


@pytest.fixture(scope="module")
def scenario():
    return load_scenario("demo", {"slots": 6})


def test_evaluation_arrivals_are_none_that_a_training_seed_reaches(scenario):
    assert evaluation_seed(0) > MAX_SEED
    assert evaluation_seed(MAX_SEED) - evaluation_seed(0) == MAX_SEED
    training = OffloadingWorld(scenario, 1).reset(seed=5).tasks.workload_gcycles
    judged = OffloadingWorld(scenario, 1).reset(seed=evaluation_seed(5)).tasks.workload_gcycles
    assert not torch.equal(training, judged)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(InputError, match="seed"):
        evaluation_seed(seed)


def test_results_agree_with_a_loop_over_single_episodes(scenario):
    results = evaluate(scenario, make_rule("local"), 3, seed=7)
    simulator = OffloadingWorld(scenario, 1)
    observation = simulator.reset(seed=evaluation_seed(7))
    for episode in range(3):
        delays, parts = [], []
        while not simulator.done:
            server, _ = make_rule("local").act("router", simulator.observe(), {})
            outcome = simulator.decide(server)
            delays.append(outcome.delays.total_s)
            parts.append(outcome.delays.wait_s)
        delay = torch.cat(delays).double().numpy()
        assert results["tasks"][episode] == len(delay)
        assert results["mean_delay_s"][episode] == pytest.approx(delay.mean(), rel=1e-6)
        assert results["wait_s"][episode] == pytest.approx(torch.cat(parts).double().mean().item(), rel=1e-6)
        assert results["p95_delay_s"][episode] == pytest.approx(np.percentile(delay, 95), rel=1e-6)
        assert results["p99_delay_s"][episode] == pytest.approx(np.percentile(delay, 99), rel=1e-6)
        observation = simulator.reset()
    assert observation.slot == 0


def test_parts_add_up_to_the_delay(scenario):
    results = evaluate(scenario, make_rule("uniform"), 4, seed=0)
    parts = results["transfer_s"] + results["wait_s"] + results["compute_s"] + results["return_s"]
    np.testing.assert_allclose(parts, results["mean_delay_s"], rtol=1e-6)


def test_same_seed_same_results_and_other_seed_other_results(scenario):
    policy = make_rule("capacity-weighted")
    first, again = (evaluate(scenario, policy, 3, seed=1) for _ in range(2))
    other = evaluate(scenario, policy, 3, seed=2)
    np.testing.assert_array_equal(first["mean_delay_s"], again["mean_delay_s"])
    assert (first["mean_delay_s"] != other["mean_delay_s"]).all()


def test_chunks_do_not_change_the_results_of_a_policy_without_luck(scenario, monkeypatch):
    whole = evaluate(scenario, make_rule("least-delay"), 7, seed=3)
    monkeypatch.setattr(episodes, "_MAX_COPIES", 3)
    finished: list[int] = []
    chunked = evaluate(scenario, make_rule("least-delay"), 7, seed=3, on_chunk=finished.append)
    assert finished == [3, 6, 7]
    np.testing.assert_array_equal(whole["tasks"], chunked["tasks"])
    np.testing.assert_allclose(whole["mean_delay_s"], chunked["mean_delay_s"], rtol=1e-6)


def test_memory_and_exploration_reach_the_policy(scenario):
    class Recorder(Policy):
        name = "recorder"
        roles = frozenset({"router"})

        def __init__(self):
            super().__init__()
            self.seen = []

        def begin(self, role, view):
            return {"count": torch.zeros(view.backlog_gcycles.shape[0])}

        def act(self, role, view, memory, explore=True):
            self.seen.append((memory["count"].tolist(), explore))
            return torch.zeros_like(view.tasks.present, dtype=torch.long), {"count": memory["count"] + 1}

    recorder = Recorder()
    results = evaluate(scenario, recorder, 2, seed=0, explore=False)
    assert recorder.seen == [([float(slot)] * 2, False) for slot in range(6)]
    assert not results.explore
    assert results.decisions_per_s > 0


def test_an_episode_without_tasks_is_refused():
    scenario = load_scenario("demo", {"slots": 1, "tasks_per_slot.low": 0, "tasks_per_slot.high": 1})
    with pytest.raises(InputError, match="has no tasks"):
        evaluate(scenario, make_rule("local"), 200, seed=0)


def test_no_episodes_are_refused(scenario):
    with pytest.raises(InputError, match="at least 1"):
        evaluate(scenario, make_rule("local"), 0, seed=0)


def test_json_has_plain_values_and_the_arrival_seed(scenario):
    data = evaluate(scenario, make_rule("local"), 2, seed=4).to_json()
    assert data["arrival_seed"] == evaluation_seed(4)
    assert isinstance(data["mean_delay_s"], list)
    assert len(data["tasks"]) == 2


def test_published_references_are_met():
    # LAD-TS spec §7.4, means over many episodes: capacity-weighted 7.63-7.71, uniform 16.4; bands for 20 episodes.
    scenario = load_scenario("ladts-paper")
    weighted = evaluate(scenario, make_rule("capacity-weighted"), 20, seed=0)["mean_delay_s"].mean()
    uniform = evaluate(scenario, make_rule("uniform"), 20, seed=0)["mean_delay_s"].mean()
    assert weighted == pytest.approx(7.67, abs=0.45)
    assert uniform == pytest.approx(16.4, abs=0.6)
