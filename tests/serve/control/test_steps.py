# SPDX-License-Identifier: Apache-2.0
"""Steps that a live allocator chooses: within what the job allows, or why its policy failed."""

from __future__ import annotations

import pytest
import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.serve.control.jobs import Job
from edgegen.serve.control.steps import LiveAllocator, Placed, StepsView

PLACED = Placed(backlog_s=3.0, load_s=0.0, capacity_gcycles_s=2.0, left_s=10.0)


class Plain(StepsView):
    """The backlog as a view, and the action as steps."""

    def observe(self, job, placed):
        return placed.backlog_s

    def steps(self, job, placed, action):
        return int(action.item())


class Scripted(Policy):
    name = "scripted"
    roles = frozenset({"allocator"})

    def __init__(self, *answers):
        super().__init__()
        self.answers, self.seen = list(answers), []

    def begin(self, role, view):
        return {"calls": torch.zeros(1)}

    def act(self, role, view, memory, explore=True):
        assert torch.is_inference_mode_enabled()
        self.seen.append((role, view, memory["calls"].item(), explore))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return torch.tensor(answer), {"calls": memory["calls"] + 1}


def job(steps=20, least=5):
    return Job("1", "x", None, steps, 7.5, 16, 16, (0,), 2.0, least_steps=least)


def test_steps_are_those_of_the_policy_within_what_the_job_allows():
    policy = Scripted(12, 3, 40)
    allocator = LiveAllocator(policy, "allocator", Plain())
    assert [allocator(job(), PLACED) for _ in range(3)] == [12, 5, 20]
    assert policy.seen == [("allocator", 3.0, calls, False) for calls in range(3)]
    assert (allocator.decisions, allocator.failures) == (3, 0)


@pytest.mark.parametrize("least", [None, 20, 30])
def test_a_job_that_leaves_no_choice_is_not_asked_about(least):
    allocator = LiveAllocator(Scripted(), "allocator", Plain())
    assert allocator(job(least=least), PLACED) == 20
    assert allocator.decisions == 0


@pytest.mark.parametrize("answer", [RuntimeError("broken"), float("nan")])
def test_a_policy_that_fails_says_so_and_forgets(answer):
    policy = Scripted(12, answer, 9)
    allocator = LiveAllocator(policy, "allocator", Plain())
    assert allocator(job(), PLACED) == 12
    with pytest.raises(ValueError, match=r"^policy 'scripted' failed: "):
        allocator(job(), PLACED)
    assert allocator(job(), PLACED) == 9
    assert [calls for _, _, calls, _ in policy.seen] == [0, 1, 0]  # what it left behind is not trusted
    assert allocator.failures == 1
    assert allocator.last_failure is not None
    assert allocator.last_failure.startswith("policy 'scripted' failed: ")
