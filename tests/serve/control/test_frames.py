# SPDX-License-Identifier: Apache-2.0
"""Frames: what edges are told to keep, by whom, and what happens when a cacher or an edge fails."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from edgegen.algorithms.core.policy import Policy
from edgegen.serve.control.books import Server
from edgegen.serve.control.frames import Caching, Frames
from edgegen.serve.control.jobs import EdgeLostError, EdgeReport
from edgegen.serve.control.ledger import Ledger
from edgegen.serve.control.live_world import Kept, LiveWorld, Wish

NAMES = ("a", "b")


class Shelf(LiveWorld):
    """Shows the demand, and takes for every edge whether it keeps its only model."""

    kind = "shelf"
    roles: ClassVar[Any] = {"router": None, "keeper": None}
    role, cacher = "router", "keeper"

    def __init__(self, ledger):
        self.ledger = ledger
        super().__init__(ledger.servers, 1.0)

    def observe(self):
        return torch.from_numpy(self.ledger.demand.copy())

    def asked(self, waiting):
        return (1, 1), (0, 0)

    def keep(self, action):
        return Kept({name: Wish(("m",) * int(kept), {"m": 1.0}) for name, kept in zip(NAMES, action, strict=True)})


class Scripted(Policy):
    name = "scripted"
    roles = frozenset({"keeper"})

    def __init__(self, *answers):
        super().__init__()
        self.answers, self.seen = list(answers), []

    def begin(self, role, view):
        return {"calls": torch.zeros(1)}

    def act(self, role, view, memory, explore=True):
        assert torch.is_inference_mode_enabled()
        self.seen.append((role, view[0, 0].item(), memory["calls"].item()))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return torch.tensor(answer), {"calls": memory["calls"] + 1}


class Edge:
    def __init__(self):
        self.told, self.choosers, self.failure = [], [], None

    async def keep(self, wanted, scores=None):
        if self.failure:
            raise self.failure
        self.told.append((tuple(wanted), scores))

    async def choose_steps_by(self, decide_steps):
        if self.failure:
            raise self.failure
        self.choosers.append(decide_steps)


def service(*answers):
    servers = [Server(name, ("m",), 450.0, 1.0, 9) for name in NAMES]
    ledger = Ledger(servers, ("m",))
    for server in servers:
        server.hear(EdgeReport(server.name, 1, (), 0, 0.0, 1.0, 0.1, 0, None), 0.0)
    edges = {name: Edge() for name in NAMES}
    policy = Scripted(*answers)
    caching = Caching(Shelf(ledger), policy)
    return Frames(ledger, edges, 30.0, caching), ledger, edges, policy


def test_edges_are_told_once_a_frame_and_demand_is_forgotten(run_virtually):
    frames, ledger, edges, policy = service((1, 0), (0, 1), (0, 0))

    async def whole():
        ledger.count("a", "m")
        await frames.start()
        await asyncio.sleep(65)
        await frames.stop()

    run_virtually(whole())
    assert policy.seen == [("keeper", 1.0, 0), ("keeper", 0.5, 1), ("keeper", 0.25, 2)]
    assert [wanted for wanted, _ in edges["a"].told] == [("m",), (), ()]
    assert [wanted for wanted, _ in edges["b"].told] == [(), ("m",), ()]
    assert (ledger.frame, frames.caching.decisions) == (3, 3)


@pytest.mark.parametrize("answer", [RuntimeError("broken"), (1, 2, 3)])
def test_edges_go_on_with_what_they_have_when_the_cacher_fails(answer, run_virtually):
    frames, ledger, edges, policy = service((1, 1), answer, (1, 0))

    async def whole():
        for _ in range(3):
            await frames.begin()

    run_virtually(whole())
    assert len(edges["a"].told) == 2
    assert ledger.frame == 3
    assert (frames.caching.decisions, frames.caching.failures) == (2, 1)
    assert frames.caching.last_failure.startswith("policy 'scripted' failed: ")
    assert [calls for _, _, calls in policy.seen] == [0, 1, 0]


@pytest.mark.parametrize("failure", [EdgeLostError("gone"), OSError("strange")])
def test_an_edge_that_can_not_be_told_spoils_no_frame(failure, run_virtually):
    frames, _, edges, _ = service((1, 1), (1, 1))
    edges["a"].failure = failure

    async def whole():
        await frames.begin()
        edges["a"].failure = None
        await frames.begin()

    run_virtually(whole())
    assert (len(edges["a"].told), len(edges["b"].told)) == (1, 2)


def test_an_edge_that_is_lost_is_not_told(run_virtually):
    frames, ledger, edges, _ = service((1, 1))
    ledger.servers[1].lose("gone")
    run_virtually(frames.begin())
    assert (len(edges["a"].told), len(edges["b"].told)) == (1, 0)


def test_frames_go_on_where_edges_see_to_their_memory_themselves(run_virtually):
    _, ledger, edges, _ = service()
    ledger.count("b", "m")
    run_virtually(Frames(ledger, edges, 30.0, None).begin())
    assert not edges["a"].told
    assert np.array_equal(ledger.demand, np.array([[0], [0.5]]))


def test_edges_are_told_who_chooses_steps_at_once_and_again_when_they_come_back(run_virtually):
    _, ledger, edges, _ = service()
    frames, chooser = Frames(ledger, edges, 30.0, None), lambda job, state: 1
    edges["b"].failure = EdgeLostError("gone")

    async def whole():
        await frames.change_steps(dict.fromkeys(NAMES, chooser))
        assert (edges["a"].choosers, edges["b"].choosers) == ([chooser], [])
        edges["b"].failure = None
        await frames.begin()
        await frames.begin()
        assert (edges["a"].choosers, edges["b"].choosers) == ([chooser], [chooser])
        ledger.servers[0].hear(EdgeReport("a", 2, (), 0, 0.0, 1.0, 0.1, 0, None), 1.0)  # another process
        await frames.begin()
        assert (edges["a"].choosers, edges["b"].choosers) == ([chooser, chooser], [chooser])
        await frames.change_steps({"a": None, "b": None})
        assert (edges["a"].choosers[-1], edges["b"].choosers[-1]) == (None, None)

    run_virtually(whole())
