# SPDX-License-Identifier: Apache-2.0
"""Several gateways in virtual time: none is special, and what was accepted is done once and can be fetched."""

from __future__ import annotations

import asyncio
import base64

import pytest

from tests.serve.many_gateways import with_gateways

FIVE_GCYCLES = {"num_inference_steps": 50}  # 1.25 s, 2.5 s and 5 s on the edges
TWENTY_GCYCLES = {"n": 4, **FIVE_GCYCLES}
KEY = {"idempotency-key": "mine"}


def pictures(answer):
    assert answer.status_code == 200, answer.text
    return [base64.b64decode(picture["b64_json"]).decode() for picture in answer.json()["data"]]


async def asked_under_load(fleet, count, period_s, event, **fields):
    """Answers to requests with seeds that count up, sent one per period, with an event in the midst of them."""
    asked = []
    for number in range(count):
        await fleet.until(number * period_s)
        if number == count // 2:
            await event()
        asked.append(fleet.ask(seed=number, **fields))
    return await asyncio.gather(*asked)


def check_nothing_lost(fleet, answers, once=True):
    assert [pictures(answer) for answer in answers] == [[f"x {seed}"] for seed in range(len(answers))]
    assert len(fleet.painted) == len(answers)
    if once:
        assert set(fleet.begun.values()) == {1}


@pytest.mark.parametrize("gateways", [2, 3])
def test_gateway_that_dies_loses_nothing_and_nothing_is_done_twice(make_config, gateways):
    async def scenario(fleet):
        answers = await asked_under_load(fleet, 60, 0.9, fleet.nodes[0].die, **FIVE_GCYCLES)
        check_nothing_lost(fleet, answers)
        assert all(node.taken >= 60 // gateways // 2 for node in fleet.nodes)
        for _ in range(4):
            health = await fleet.client.get("/healthz")
            assert (health.status_code, health.json()["status"]) == (200, "ok")

    with_gateways(scenario, make_config(), gateways)


def test_what_is_on_its_way_when_its_gateway_dies_is_not_done_twice(make_config):
    async def scenario(fleet):
        for link in fleet.nodes[0].links.values():
            link.job_lag_s = 6.0
        answers = await asked_under_load(fleet, 60, 0.9, fleet.nodes[0].die, **FIVE_GCYCLES)
        await fleet.until(fleet.clock() + 10)
        check_nothing_lost(fleet, answers)

    with_gateways(scenario, make_config(policy="uniform"))  # so that the other gateway may choose another edge


def test_edge_that_takes_its_time_to_say_what_it_has_is_waited_for(make_config):
    async def scenario(fleet):
        for link in fleet.nodes[1].links.values():
            link.find_lag_s = 3.0  # longer than an edge may take for a report
        answers = await asked_under_load(fleet, 60, 0.9, fleet.nodes[0].die, **FIVE_GCYCLES)
        check_nothing_lost(fleet, answers)

    with_gateways(scenario, make_config(policy="uniform", report_timeout_s=2))


def test_gateway_that_hangs_until_it_is_replaced_loses_nothing(make_config):
    async def scenario(fleet):
        async def event():
            fleet.nodes[0].frozen = True
            fleet.loop.call_later(15, fleet.nodes[0].dead.set)  # Serve has asked three times in vain

        answers = await asked_under_load(fleet, 60, 0.9, event, **FIVE_GCYCLES)
        check_nothing_lost(fleet, answers)
        assert fleet.nodes[0].taken > 20  # eight of them after it hung

    with_gateways(scenario, make_config())


def test_edge_that_hangs_loses_nothing(make_config):
    async def scenario(fleet):
        async def event():
            fleet.edges["edge-a"].stopped = True

        check_nothing_lost(fleet, await asked_under_load(fleet, 40, 1.5, event, **FIVE_GCYCLES), once=False)

    with_gateways(scenario, make_config(stall_timeout_s=10))


def test_edge_that_dies_loses_nothing(make_config):
    async def scenario(fleet):
        async def event():
            fleet.edges["edge-a"].dead.set()

        check_nothing_lost(fleet, await asked_under_load(fleet, 40, 1.5, event, **FIVE_GCYCLES), once=False)

    with_gateways(scenario, make_config())


def test_site_that_dies_with_its_gateway_loses_nothing(make_config):
    async def scenario(fleet):
        async def event():
            fleet.edges["edge-a"].dead.set()
            await fleet.nodes[0].die()

        check_nothing_lost(fleet, await asked_under_load(fleet, 40, 1.5, event, **FIVE_GCYCLES), once=False)

    with_gateways(scenario, make_config())


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_link_that_fails_loses_nothing_and_others_go_on_using_the_edge(make_config, how):
    async def scenario(fleet):
        link = fleet.nodes[0].links["edge-a"]

        async def event():
            if how == "dies":
                link.cut.set()
            else:  # packets vanish: nothing comes back, and nothing says so
                link.across = lambda call: (call.close(), asyncio.sleep(1e6))[1]

        check_nothing_lost(fleet, await asked_under_load(fleet, 40, 1.5, event, **FIVE_GCYCLES), once=False)
        healthy = [node.gateway.scheduler.servers["edge-a"].healthy for node in fleet.nodes]
        assert healthy == [False, True]
        answers = await asyncio.gather(*(fleet.ask(edge="edge-a") for _ in range(4)))
        assert {answer.json()["edgegen"]["server"] for answer in answers} > {"edge-a"}

    with_gateways(scenario, make_config(policy="local", stall_timeout_s=10))


def test_gateways_learn_of_each_others_work(make_config):
    async def scenario(fleet):
        asked = [fleet.ask(edge="edge-a", **TWENTY_GCYCLES) for _ in range(2)]  # one by each
        await fleet.until(1.0)
        seen = [(await fleet.client.get("/v1/edges")).json()["data"][0]["backlog_gcycles"] for _ in range(2)]
        assert seen == pytest.approx([36, 36], abs=0.3)  # 40 Gcycle, less 1 s of 4 Gcycle/s
        await asyncio.gather(*asked)

    with_gateways(scenario, make_config(policy="local", report_period_s=0.2))


def test_request_without_a_seed_keeps_the_one_it_got(make_config):
    async def scenario(fleet):
        asked = fleet.ask(**FIVE_GCYCLES)
        await fleet.until(0.5)
        (edge,) = (edge for edge in fleet.edges.values() if edge.jobs)
        (job,) = edge.jobs
        edge.dead.set()  # what was begun is gone, and so is who knew of it
        (serving,) = (node for node in fleet.nodes if node.taken)
        await serving.die()
        assert pictures(await asked) == [f"x {job.seeds[0]}"]
        others = [pictures(answer)[0] for answer in await asyncio.gather(*(fleet.ask() for _ in range(5)))]
        assert len({*others, f"x {job.seeds[0]}"}) == 6

    with_gateways(scenario, make_config(report_period_s=0.05), 3)


def test_same_key_is_the_same_request_at_every_gateway(make_config):
    async def scenario(fleet):
        first = fleet.ask(KEY, **FIVE_GCYCLES)
        await fleet.until(0.1)
        asked = [first, *(fleet.ask(KEY, **FIVE_GCYCLES) for _ in range(5))]  # joins what is under way
        await asyncio.gather(*asked)
        asked += [fleet.ask(KEY, **FIVE_GCYCLES) for _ in range(4)]  # gets what was made
        shown = {tuple(pictures(answer)) for answer in await asyncio.gather(*asked)}
        assert len(shown) == 1
        assert (fleet.begun.total(), fleet.painted.total()) == (1, 1)
        assert all(node.taken == 5 for node in fleet.nodes)
        other = await fleet.ask({**KEY, "authorization": "Bearer somebody else"}, **FIVE_GCYCLES)
        assert pictures(other) != pictures(await first)  # keys of others are other keys
        await fleet.until(fleet.clock() + 61)
        assert pictures(await fleet.ask(KEY, **FIVE_GCYCLES)) == pictures(await first)
        assert fleet.painted.total() == 3  # they were kept for a minute

    with_gateways(scenario, make_config())


def test_key_of_another_request_is_refused(make_config):
    async def scenario(fleet):
        under_way = fleet.ask(KEY, **FIVE_GCYCLES)
        await fleet.until(0.1)
        for _ in range(2):
            refused = [await fleet.ask(KEY, prompt="y", **FIVE_GCYCLES) for _ in range(2)]
            assert [answer.status_code for answer in refused] == [422, 422]
            assert {answer.json()["error"]["code"] for answer in refused} == {"idempotency_key_reused"}
            await under_way
        for key in ("", "x" * 256, "with space"):
            wrong = await fleet.ask({"idempotency-key": key})
            assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_key")
        assert fleet.begun.total() == 1

    with_gateways(scenario, make_config())


def test_client_that_names_its_request_may_go_away_and_come_back(make_config):
    async def scenario(fleet):
        gone = fleet.ask({**KEY, "x-request-id": "r/1"}, seed=5, **FIVE_GCYCLES)
        await fleet.until(0.1)
        gone.cancel()  # its proxy dies, for example
        await fleet.until(0.5)
        under_way = [await fleet.client.get("/v1/images/r/1") for _ in range(2)]
        assert [(answer.status_code, answer.json()) for answer in under_way] == [(202, {"status": "in_progress"})] * 2
        await fleet.nodes[1].die()
        await fleet.until(6)
        for name in ("r/1", "mine"):
            answer = await fleet.client.get(f"/v1/images/{name}")
            assert pictures(answer) == ["x 5"]
            assert answer.json()["edgegen"]["steps"] == 50
        assert pictures(await fleet.ask(KEY, seed=5, **FIVE_GCYCLES)) == ["x 5"]
        assert fleet.begun.total() == 1
        stranger = await fleet.client.get("/v1/images/mine", headers={"authorization": "Bearer another"})
        assert (stranger.status_code, stranger.json()["error"]["code"]) == (404, "request_not_found")
        await fleet.until(70)
        assert (await fleet.client.get("/v1/images/mine")).status_code == 404

    with_gateways(scenario, make_config())


def test_client_that_goes_away_for_good_frees_its_place(make_config):
    async def scenario(fleet):
        gone = fleet.ask(**TWENTY_GCYCLES)
        await fleet.until(0.5)
        gone.cancel()
        await fleet.until(1)
        assert (fleet.begun.total(), fleet.painted.total()) == (1, 0)
        assert not any(edge.left for edge in fleet.edges.values())

    with_gateways(scenario, make_config())


def test_pictures_for_a_dead_gateway_are_finished_and_can_be_fetched(make_config):
    """The client goes away together with its gateway, as when their node dies."""

    async def scenario(fleet):
        gone = fleet.ask({"x-request-id": "r-1"}, seed=7, **FIVE_GCYCLES)
        await fleet.until(0.5)
        (serving,) = (node for node in fleet.nodes if node.taken)
        serving.dead.set()
        gone.cancel()
        await serving.gateway.stop()
        await fleet.until(6)
        assert pictures(await fleet.client.get("/v1/images/r-1")) == ["x 7"]

    with_gateways(scenario, make_config())
