# SPDX-License-Identifier: Apache-2.0
"""The shard's books, without Ray: what is granted, held back, handed out, and kept; and who sits where."""

import asyncio
import pickle

import numpy as np
import pytest
import torch

from edgegen.algorithms.methods.configs import LADTSConfig
from edgegen.algorithms.rllib.asynchronous import actor
from edgegen.algorithms.rllib.asynchronous.checkpoint import dealt, gather, read_shards, whole_replay, write_shards
from edgegen.algorithms.rllib.asynchronous.parcel import Parcel, Publication
from edgegen.algorithms.rllib.asynchronous.seating import seat
from edgegen.algorithms.rllib.asynchronous.shard import ReplayShard, ShardPlan
from edgegen.algorithms.rllib.replay import TensorReplay
from edgegen.algorithms.rllib.runner import JointEnvRunner
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.offloading.view import ROUTER

SLOTS = 2
FAR = 10**9


@pytest.fixture(scope="module")
def config():
    world = load_scenario("demo", {"tasks_per_slot.high": 3, "slots": 8})
    settings = {"hidden": 8, "replay_capacity": 60, "replay_warmup": 30, "batch_size": 4, "copies": 1}
    return LADTSConfig().scenario(world).preset("improved", **settings, updates_per_slot=0.75).debugging(seed=0)


@pytest.fixture(scope="module")
def parcels(config):
    """Twenty fragments of two slots, of runner 1."""
    runner = JointEnvRunner(config=config)
    fragments = [runner.sample(num_timesteps=SLOTS)[0] for _ in range(20)]
    return [Parcel.of(fragment, 1, Publication(), 0) for fragment in fragments]


def shard(config, *, index=0, shards=1, learners=1, room=8, bound=100):
    return ReplayShard(config.learning(), ShardPlan(index, shards, learners, room, bound, seed=3))


def test_no_more_is_granted_than_there_is_room_for(config, parcels):
    books = shard(config, room=6)
    assert [books.ask(1, SLOTS) is not None for _ in range(4)] == [True, True, True, False]
    books.put(parcels[0])
    assert (books.playing, books.waiting) == (4, 2)
    assert books.ask(2, SLOTS) is None  # what waits takes room, too
    assert books.take(0, FAR, 100).slots == 2
    assert books.ask(2, SLOTS) is not None
    books.forget(1)
    assert books.playing == 2  # those of runner 2 are left


def test_who_has_gone_is_granted_nothing_any_more(config, monkeypatch):
    monkeypatch.setattr(actor, "ASK_WAIT_S", 0.05)

    async def asked_by_two():
        books = actor.ShardActor(config, ShardPlan(0, 1, 1, room=2, bound=100, seed=3))
        assert await books.ask(1, SLOTS) is not None
        lost, waiting = asyncio.create_task(books.ask(2, SLOTS)), asyncio.create_task(books.ask(3, SLOTS))
        await asyncio.sleep(0)
        await books.forget(2)  # lost while it waits for room
        await books.forget(1)
        assert await lost is None
        assert await waiting is not None
        assert books.shard.players == [3]
        await books.rest()
        assert books.shard.playing == 0

    asyncio.run(asked_by_two())


def test_a_fragment_longer_than_the_room_is_granted_alone(config):
    books = shard(config, room=6)
    assert books.ask(1, 50) is not None
    assert books.ask(2, 1) is None


def test_as_many_updates_are_handed_out_as_the_preset_says(config, parcels):
    books = shard(config, room=FAR)
    made, warm = [], 0
    for parcel in parcels:
        books.put(parcel)
        before = int(books.replays[ROUTER].sizes.min())
        made.append(len(books.take(0, FAR, 100).batches))
        if int(books.replays[ROUTER].sizes.min()) <= 30:
            assert before <= 30
            assert made[-1] == 0
            warm += 1
    assert 0 < warm < 5  # nothing is made up for after the warm-up
    assert sum(made) == int((len(parcels) - warm) * SLOTS * 0.75)
    assert books.owed[ROUTER] == pytest.approx((len(parcels) - warm) * SLOTS * 0.75 % 1)
    assert books.rows()[ROUTER] == min(60, sum(int(parcel.roles[ROUTER][1].sum()) for parcel in parcels))


def test_fragments_are_handed_out_whole_and_in_order_up_to_the_updates_asked_for(config, parcels):
    books = shard(config, room=FAR)
    for parcel in parcels[:8]:
        books.put(parcel)
    books.take(0, 10, 100)  # warm
    books.owed[ROUTER] = 0.0
    assert books.waiting == 6
    take = books.take(10, FAR, 2)
    assert len(take.batches) == 3  # 1.5 updates each: two fragments for the two updates that were asked for
    assert (take.slots, take.left) == (4, 2)


def test_learners_wait_for_who_plays_with_old_weights(config, parcels):
    books = shard(config, room=FAR, bound=6)
    books.ask(2, SLOTS)  # with the weights of the beginning, and slow
    for parcel in parcels[:10]:
        books.ask(1, SLOTS)
        books.put(parcel)
    books.learn_of(Publication(version=5, clock=4))
    assert books.limit == 6
    assert books.take(0, FAR, 100).slots == 6
    assert books.take(6, FAR, 100).slots == 0
    books.forget(2)
    assert books.limit == 10  # counted from the newest weights, which the next grant would be with
    assert books.take(6, 8, 100).slots == 2  # another shard allows no more
    assert books.take(8, FAR, 100).slots == 2


def test_weights_go_with_grants_and_never_back(config):
    books = shard(config)
    books.learn_of(Publication(7, 12, ["new"]))
    books.learn_of(Publication(3, 6, ["old"]))
    assert books.ask(1, SLOTS).publication == Publication(7, 12, ["new"])


def test_every_learner_draws_a_batch_of_its_own(config, parcels):
    books = shard(config, learners=3)
    for parcel in parcels[:10]:
        books.put(parcel)
    take = books.take(0, FAR, 100)
    second, third = (books.part(take.ticket, learner) for learner in (1, 2))
    assert [role for role, _ in take.batches] == [role for role, _ in second] == [role for role, _ in third]
    drawn = [np.stack([batch["obs"] for _, batch in part]) for part in (take.batches, second, third)]
    assert drawn[0].shape == drawn[1].shape
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])


def test_shards_share_capacity_and_warm_up(config, parcels):
    books = shard(config, index=1, shards=4, room=FAR)
    for parcel in parcels:
        books.put(parcel)
    assert books.take(0, FAR, 1).slots == SLOTS  # more than 7 rows: a quarter of the warm-up
    books.take(0, FAR, 10_000)
    assert books.rows()[ROUTER] == 15


def test_a_shard_goes_on_where_it_was_saved(config, parcels):
    books, other = shard(config), shard(config)
    for parcel in parcels[:12]:
        books.put(parcel)
    books.take(0, 14, 100)
    other.set_state([(pickle.loads(pickle.dumps(books.get_state())), 0, 1)])
    assert (other.waiting, other.arrived, other.rows()) == (books.waiting, 24, books.rows())
    one, two = books.take(14, FAR, 100), other.take(14, FAR, 100)
    assert len(one.batches) > 5
    for (_, first), (_, second) in zip(one.batches, two.batches, strict=True):
        assert all(np.array_equal(first[name], second[name]) for name in first)
    assert one.life != two.life


def rows_of(replays):
    """Observations held, sorted."""
    held = [replay.columns["obs"][0, : int(replay.sizes[0])] for replay in replays]
    return sorted(map(tuple, torch.cat(held).tolist()))


def test_rows_are_dealt_to_more_shards_and_to_fewer_without_losing_any(config, parcels, tmp_path):
    whole = shard(config, room=FAR)
    for parcel in parcels[:7]:
        whole.put(parcel)
    whole.take(0, FAR, 1000)
    before = rows_of([whole.replays[ROUTER]])
    parts = []
    for number, ((old, part, of),) in enumerate(dealt(1, 2)):
        assert old == 0
        parts.append(shard(config, index=number, shards=2))
        parts[-1].set_state([(whole.get_state(), part, of)])
    assert rows_of([part.replays[ROUTER] for part in parts]) == before
    assert abs(parts[0].rows()[ROUTER] - parts[1].rows()[ROUTER]) <= 1
    assert sum(part.owed[ROUTER] for part in parts) == pytest.approx(whole.owed[ROUTER])
    write_shards(tmp_path, (np.frombuffer(pickle.dumps(part.get_state()), np.uint8) for part in parts))
    alone = {ROUTER: TensorReplay(1, 60)}
    assert gather(read_shards(tmp_path), alone)[ROUTER] == pytest.approx(whole.owed[ROUTER])
    assert rows_of(alone.values()) == before


def test_a_replay_of_a_synchronous_training_is_what_one_shard_holds(config, parcels):
    whole = shard(config)
    for parcel in parcels[:7]:
        whole.put(parcel)
    whole.take(0, FAR, 1000)
    saved = whole_replay({ROUTER: whole.replays[ROUTER].get_state()}, {ROUTER: 0.25})
    other = shard(config)
    other.set_state([(pickle.loads(saved.tobytes()), 0, 1)])
    assert rows_of(other.replays.values()) == rows_of(whole.replays.values())
    assert other.owed == {ROUTER: 0.25}


def test_a_smaller_replay_draws_from_the_ring_of_each_group():
    ring = TensorReplay(3, 100)
    ring.hold(4)
    ring.add({"x": torch.arange(3)[:, None] * 10 + torch.arange(6)}, torch.ones(3, 6, dtype=torch.bool))
    drawn = ring.sample(200)["x"]
    assert [sorted(set(drawn[:, group].tolist())) for group in range(3)] == [
        [2, 3, 4, 5], [12, 13, 14, 15], [22, 23, 24, 25],
    ]  # fmt: skip


def test_rows_of_an_overwritten_ring_are_taken_oldest_first():
    ring = TensorReplay(2, 4)
    valid = torch.tensor([[True] * 6, [True, False] * 3])
    ring.add({"x": torch.arange(12).reshape(2, 6)}, valid)  # 2 3 4 5, and 6 8 10
    small = TensorReplay(2, 3)
    small.take_rows(ring.get_state())
    assert small.added.tolist() == [4, 3]
    assert sorted(small.columns["x"][0].tolist()) == [3, 4, 5]
    assert small.columns["x"][1].tolist() == [6, 8, 10]
    odd = TensorReplay(2, 4)
    odd.take_rows(ring.get_state(), part=1, parts=2)
    assert odd.columns["x"][0, :2].tolist() == [3, 5]
    assert odd.columns["x"][1, :1].tolist() == [8]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (2, 2, [[(0, 0, 1)], [(1, 0, 1)]]),
        (3, 1, [[(0, 0, 1), (1, 0, 1), (2, 0, 1)]]),
        (2, 3, [[(0, 0, 3), (1, 0, 3)], [(0, 1, 3), (1, 1, 3)], [(0, 2, 3), (1, 2, 3)]]),
    ],
)
def test_everything_saved_comes_to_somebody(before, now, expected):
    assert dealt(before, now) == expected


def test_runners_sit_at_shards_of_their_own_host():
    assert seat(["a", "b", "a", "b", "a"], 0) == (("a", "b"), (0, 1, 0, 1, 0))
    assert seat(["a"] * 7 + ["b"], 0) == (("a", "a", "b"), (0, 1, 0, 1, 0, 1, 0, 2))  # six sit at one
    assert seat(["a", "a", "a"], 2) == (("a", "a"), (0, 1, 0))
    assert seat(["a", "b", "c"], 2) == (("a", "b"), (0, 1, 0))  # host c has none
