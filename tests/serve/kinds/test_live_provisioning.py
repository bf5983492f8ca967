# SPDX-License-Identifier: Apache-2.0
"""The provisioning kind live: its views are those of the simulator, and T2DRL caches and allocates for a service."""

from __future__ import annotations

import pytest
import torch

from edgegen.algorithms.core.codec import save_policy
from edgegen.algorithms.methods.ladts import METHOD as LADTS
from edgegen.algorithms.methods.ladts import LADTSPolicy
from edgegen.algorithms.methods.t2drl import METHOD as T2DRL
from edgegen.algorithms.methods.t2drl import T2DRLPolicy, T2DRLSpec
from edgegen.algorithms.roles.router.routers import router_for
from edgegen.envs.core.errors import InputError
from edgegen.envs.provisioning.amenders import keep_all
from edgegen.envs.provisioning.view import CACHER
from edgegen.envs.provisioning.world import ProvisioningWorld
from edgegen.serve.config import build_config
from edgegen.serve.control.jobs import EdgeReport, Job
from edgegen.serve.control.steps import Placed
from edgegen.serve.kinds.cast import ANY_ROUTER, Part, allocators, make_parts, parts_of
from edgegen.serve.kinds.facts import open_books
from edgegen.serve.kinds.provisioning import USUAL_PROMPT, LiveProvisioning, ProvisioningSteps
from edgegen.serve.kinds.registry import scenario_of
from tests.serve.fake_edges import URL, serve

MODEL = {"sizes": ["64x64"], "default_steps": 20, "least_steps": 4, "load_s": 1}
EDGES = [
    {"name": "x", "models": ["a", "b", "c"], "capacity_gcycles_s": 2, "memory_gb": 5},
    {"name": "y", "models": ["a", "b", "c"], "capacity_gcycles_s": 0.5, "memory_gb": 3},
]
SIZES_GB = {"a": 2, "b": 3, "c": 2.5}
SERVICE = {
    "kind": "provisioning",
    "policy": "lru",
    "frame_s": 6,
    "deadline_s": 10,
    "models": {
        name: {**MODEL, "cycles_per_step_gcycles": step, "size_gb": SIZES_GB[name]}
        for name, step in (("a", 0.1), ("b", 0.2), ("c", 0.15))
    },
    "edges": EDGES,
}


def world(config):
    return scenario_of(config, kind="provisioning")


def books(config):
    servers = open_books(config)
    for server in servers:
        server.hear(EdgeReport(server.name, 1, (), 0, 0.0, 1.0, 0.1, 0, None, ()), 0.0)
    assert servers[0].ledger is not None
    return servers[0].ledger


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """T2DRL, for this service as cells, and LAD-TS, for it as servers; both as they are before training."""
    config, folder = build_config(SERVICE), tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    cells = world(config)
    spec = T2DRLSpec.of(cells, T2DRL.make_settings("improved", {"hidden": 16, "cacher_hidden": 16}))
    save_policy(T2DRLPolicy(spec, spec.actor(), spec.cacher(), cells, seed=1), folder / "t2drl", cells, {})
    servers = scenario_of(config, kind="offloading")
    save_policy(LADTSPolicy(router_for(servers, LADTS.make_settings()).actor(), seed=1), folder / "ladts", servers, {})
    return folder


def test_a_service_as_cells():
    found = world(build_config(SERVICE))
    assert (found.cells, found.users, found.models, found.slots_per_frame) == (2, 1, 3, 6)
    assert found.storage_per_cell_gb == (5, 3)
    assert found.steps_per_cell == (100, 25)  # 10 s at 2 and 0.5 Gcycle/s, 0.2 Gcycle a step
    assert [curve.a3_steps for curve in found.curves.curves] == [20, 20, 20]
    assert found.curves.curves[0].a4_tv == 0


def test_cachers_see_what_they_see_in_the_simulator():
    config = build_config(SERVICE)
    scenario, ledger = world(config), books(config)
    simulator, live = ProvisioningWorld(scenario), LiveProvisioning(ledger, scenario)
    simulator.reset(4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(scenario.frames):
        live.begin_frame()
        assert (live.turn, simulator.turn) == (CACHER, CACHER)
        seen, expected = live.observe(), simulator.observe_frame()
        assert seen.frame == expected.frame
        for name in ("skewness_state", "previous_cache", "size_gb", "storage_gb", "static_popularity"):
            assert torch.equal(getattr(seen, name), getattr(expected, name)), name
        for name in ("frequency", "history"):
            torch.testing.assert_close(getattr(seen, name), getattr(expected, name), rtol=1e-6, atol=0)
        for one, other in zip(seen.curves.values(), expected.curves.values(), strict=True):
            assert torch.equal(one, other)
        # One model each, so that it always fits: amenders are each world's own.
        wanted = torch.nn.functional.one_hot(torch.randint(3, (1, 2), generator=generator), 3).bool()
        kept, cached = live.keep(wanted), simulator.cache(wanted).cache
        live.end_frame()
        for cell, name in enumerate("xy"):
            assert kept.wishes[name].models == tuple("abc"[m] for m in range(3) if cached[0, cell, m])
        ledger.next_frame()
        for _ in range(scenario.slots_per_frame):
            view = simulator.observe_slot()
            for cell, name in enumerate("xy"):
                ledger.count(name, "abc"[int(view.model[0, cell, 0])])
            simulator.decide(torch.full((1, 2, 1, 2), 0.5))


def test_allocators_see_what_they_see_of_a_hit_in_the_simulator():
    config = build_config({**SERVICE, "edges": EDGES[:1]})
    scenario = world(config)
    simulator = ProvisioningWorld(scenario, caching_amender=keep_all)
    simulator.reset(4)
    simulator.decide(torch.ones(1, 1, 3, dtype=torch.bool))
    steps = ProvisioningSteps(config, "x", scenario)
    for _ in range(scenario.slots_per_frame):
        expected = simulator.observe_slot()
        name = "abc"[int(expected.model)]
        job = Job("1", "x" * USUAL_PROMPT, None, 20, 7.5, 64, 64, (0,), 2.0, name, 4)
        placed = Placed(0.0, 0.0, 2.0, 10.0)
        seen = steps.observe(job, placed)
        for field in ("model", "hit", "steps_budget"):
            assert torch.equal(getattr(seen, field), getattr(expected, field)), field
        for field in ("upload_mbit", "result_mbit", "gain"):
            torch.testing.assert_close(getattr(seen, field), getattr(expected, field), rtol=1e-6, atol=0)
        for one, other in zip(seen.curves.values(), expected.curves.values(), strict=True):
            assert torch.equal(one, other)
        for share in (0.05, 0.133, 1.0):
            outcome_steps = steps.steps(job, placed, torch.tensor([1.0, share]).expand(1, 1, 1, 2))
            assert outcome_steps == min(int(share * 100 + 1e-3), 20)
        outcome = simulator.allocate(torch.ones(1, 1, 1), torch.full((1, 1, 1), 0.133))
        assert float(outcome.steps) == 13


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (torch.zeros(1, 2, 1), r"shape \(1, 2, 1\), expected \(1, 2, 1, 2\)"),
        (torch.full((1, 2, 1, 2), float("nan")), "is nan"),
    ],
)
def test_impossible_shares_are_refused(action, words):
    config = build_config(SERVICE)
    steps = ProvisioningSteps(config, "y", world(config))
    job = Job("1", "x", None, 20, 7.5, 64, 64, (0,), 2.0, "a", 4)
    with pytest.raises(ValueError, match=words):
        steps.steps(job, Placed(0.0, 0.0, 0.5, 10.0), action)


def test_t2drl_caches_and_allocates_while_ladts_routes(runs):
    run, router = str(runs / "t2drl"), str(runs / "ladts")
    config = build_config({**SERVICE, "policy": f"router={router} cacher={run} allocator={run}", "frame_s": 0.3})
    cells = Part("provisioning", run)
    assert parts_of(config) == {"router": Part("offloading", router), "cacher": cells, "allocator": cells}
    allocator = allocators(config)["y"]
    assert allocator is not None
    job = Job("1", "x", None, 20, 7.5, 64, 64, (0,), 2.0, "b", 4)
    assert 4 <= allocator(job, Placed(0.0, 0.0, 0.5, 10.0)) <= 20
    assert (allocator.decisions, allocator.failures) == (1, 0)

    async def scenario(client, edges, gateway):
        for model in "abcabc":
            answer = await client.post(URL, json={"prompt": "x", "model": model})
            assert answer.json()["edgegen"]["fallback"] is None
        state = (await client.get("/healthz")).json()
        assert state["policy"]["name"] == "lad-ts"
        assert (state["cacher"]["name"], state["cacher"]["failures"]) == ("t2drl", 0)
        for edge, memory_gb in zip(edges.values(), (5, 3), strict=True):
            wanted, _ = edge.kept[-1]
            assert sum(SIZES_GB[model] for model in wanted) <= memory_gb

    serve(scenario, config)


def test_somebody_routes_where_a_service_of_cells_names_nobody(runs):
    run = Part("provisioning", str(runs / "t2drl"))
    config = build_config({**SERVICE, "policy": run.name})
    assert parts_of(config) == {"cacher": run, "allocator": run, "router": ANY_ROUTER}
    assert set(make_parts(config, parts_of(config))) == {"router", "cacher", "allocator"}


def test_a_policy_of_other_cells_is_refused(runs):
    more = [*EDGES, {**EDGES[0], "name": "z"}]
    config = build_config({**SERVICE, "edges": more, "policy": str(runs / "t2drl")})
    with pytest.raises(InputError, match="was trained for 2 cells, but scenario 'service' has 3"):
        make_parts(config, parts_of(config))
