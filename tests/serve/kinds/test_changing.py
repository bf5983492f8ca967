# SPDX-License-Identifier: Apache-2.0
"""Policies that change while a service serves: by an operator's orders, and by what an alias points at."""

from __future__ import annotations

import asyncio
import json

import pytest
import torch

from edgegen.algorithms.core.catalog import make_policy
from edgegen.algorithms.core.codec import save_policy
from edgegen.algorithms.methods.ladts import METHOD, LADTSPolicy
from edgegen.algorithms.roles.router.routers import router_for
from edgegen.envs.core.errors import InputError
from edgegen.serve.http.gateway import Gateway
from edgegen.serve.kinds import cast, changing
from edgegen.serve.kinds.cast import make_parts, parts_of
from edgegen.serve.kinds.registry import scenario_of
from tests.serve.fake_edges import URL, held, serve


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_config):
    """A trained router for the three edges of these tests."""
    folder = tmp_path_factory.mktemp("run") / "policy"
    scenario = scenario_of(make_config())
    torch.manual_seed(0)
    save_policy(LADTSPolicy(router_for(scenario, METHOD.make_settings()).actor(), seed=1), folder, scenario, {})
    return folder


async def ask(client, number=1):
    """Requests, one by one; what the service says of them."""
    answers = [await client.post(URL, json={"prompt": "x"}) for _ in range(number)]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json()["edgegen"] for answer in answers]


async def policy(client):
    return (await client.get("/healthz")).json()["policy"]


def test_a_policy_takes_charge_while_requests_are_under_way(run, make_config):
    async def scenario(client, edges, gateway):
        under_way = await held(client, list(edges.values()), 3)
        assert await gateway.obey({"policy": str(run)}) is None
        state = await policy(client)
        assert (state["name"], state["label"], state["refused"]) == ("lad-ts", str(run), None)
        for edge in edges.values():
            edge.hold.set()
        assert {(await answer).status_code for answer in under_way} == {200}
        assert (await ask(client))[0]["fallback"] is None
        assert (await policy(client))["healthy"]

    serve(scenario, make_config())


def test_a_policy_for_all_roles_is_loaded_once(make_config, monkeypatch):
    loaded = []

    def make(name, *rest):
        loaded.append(name)
        return make_policy(name, *rest)

    monkeypatch.setattr(cast, "make_policy", make)

    async def scenario(client, edges, gateway):
        loaded.clear()
        words = " ".join(f"{role}=price-greedy" for role in ("router", "cacher", "allocator"))
        assert await gateway.obey({"policy": words}) is None
        assert loaded == ["price-greedy"]
        assert (await policy(client))["name"] == "price-greedy"

    serve(scenario, make_config())


def damaged(run, tmp_path):
    """The same policy with a broken manifest."""
    copy = tmp_path / "damaged"
    copy.mkdir()
    manifest = json.loads((run / "policy.json").read_text())
    (copy / "policy.json").write_text(json.dumps({**manifest, "weights_sha256": "0"}))
    (copy / "weights.safetensors").write_bytes((run / "weights.safetensors").read_bytes())
    return copy


def test_what_can_not_take_charge_is_refused_in_one_sentence_and_the_old_policy_stays(run, make_config, tmp_path):
    broken = damaged(run, tmp_path)
    orders = [
        ({"policy": str(broken)}, "is damaged: weights.safetensors does not match its checksum"),
        ({"shadow": "nobody"}, "Unknown policy 'nobody'"),
        ({"canary": "router=least-delay cacher=least-delay"}, "Unknown policy 'least-delay'"),
        ({"polcy": "local"}, "unknown field 'polcy'"),
        ({"canary_share": -1}, "canary_share"),
    ]

    async def scenario(client, edges, gateway):
        for order, words in orders:
            refusal = await gateway.obey(order)
            assert words in refusal
            assert "\n" not in refusal
            state = await policy(client)
            assert (state["name"], state["refused"]) == ("least-delay", refusal)
            assert (state["canary"], state["shadow"]) == (None, None)
        await ask(client)

    serve(scenario, make_config())


def test_shadow_and_canary_come_from_the_config_and_go_by_orders(run, make_config):
    async def scenario(client, edges, gateway):
        await ask(client, 20)
        state = await policy(client)
        assert state["shadow"]["name"] == "local"
        assert state["shadow"]["decisions"] == 20
        assert 0 <= state["shadow"]["agreement"] <= 1
        assert (state["canary"]["name"], state["canary"]["share"]) == (str(run), 0.4)
        assert await gateway.obey({"promote": True, "shadow": ""}) is None
        state = await policy(client)
        assert (state["label"], state["canary"], state["shadow"]) == (str(run), None, None)
        assert state["events"][-1] == f"The policy '{run}' took charge instead of 'least-delay'."
        assert await gateway.obey({"canary": "local", "canary_share": 0.2}) is None
        assert await gateway.obey({"canary": ""}) is None
        assert (await policy(client))["events"][-1].endswith("lost its share: the operator took it away.")

    serve(scenario, make_config(shadow="local", canary=str(run), canary_share=0.4))


async def looked_more_than(times, looked):
    """Wait until an alias was looked up often enough, 10 s at most."""
    for _ in range(100):
        if len(looked) > times:
            return
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(("blocks", "slot"), [(0, "charge"), (5, "canary")])
def test_what_an_alias_points_at_is_followed(blocks, slot, make_config, monkeypatch):
    versions = iter(["least-delay", InputError("The store is away."), "local", "local", "nobody"])
    looked = []

    def pinned(alias):
        looked.append(alias)
        found = next(versions, "nobody")
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(changing, "pinned", pinned)

    async def scenario(client, edges, gateway):
        await looked_more_than(5, looked)
        state = await policy(client)
        assert set(looked) == {"models:/mine@best"}
        assert "Unknown policy 'nobody'" in state["refused"]
        assert (state["label"] if slot == "charge" else state["canary"]["name"]) == "local"

    config = make_config(follow="models:/mine@best", canary_blocks=blocks)
    serve(scenario, config.model_copy(update={"follow_s": 0.05}))


def test_what_can_not_be_fetched_is_looked_for_again_and_told_once(make_config, monkeypatch, caplog):
    looked = []

    def fetch(version):
        looked.append(version)
        raise InputError("The files are away.")

    monkeypatch.setattr(changing, "pinned", lambda alias: "models:/mine/3")
    monkeypatch.setattr(changing, "fetch", fetch)

    async def scenario(client, edges, gateway):
        await looked_more_than(3, looked)
        state = await policy(client)
        assert (state["version"], state["label"]) == (None, "least-delay")

    serve(scenario, make_config(follow="models:/mine@best").model_copy(update={"follow_s": 0.05}))
    assert len(looked) > 3
    assert [record.getMessage() for record in caplog.records if "can not be followed" in record.getMessage()] == [
        "the alias can not be followed: The files are away."
    ]


@pytest.mark.parametrize("kind", ["offloading", "fleet"])
def test_a_gateway_is_warmed_up_before_it_knows_any_edge(kind, run, make_config):
    for name in (str(run), "least-delay") if kind == "offloading" else ("price-greedy", "earliest"):
        config = make_config(kind=kind, policy=name)
        gateway = Gateway(config, make_parts(config, parts_of(config))["router"], {})
        gateway.warm_up()
        assert gateway.scheduler.decisions == 0
        assert gateway.health()["policy"]["failures"] == 0
