# SPDX-License-Identifier: Apache-2.0
"""Hits of one memory, by hand and against plain searches."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from edgegen.envs.fleet.hits import belady_hits, lru_hits

ROOMS = np.array([1, 2, 3, 4])


def test_hits_by_hand() -> None:
    model = np.array([0, 1, 0, 0, 2, 1, 0])
    # LRU with room for 1 hits the fourth; for 2 also the third; for 3 all but the first of each.
    assert lru_hits(model, ROOMS).tolist() == [1 / 7, 2 / 7, 4 / 7, 4 / 7]
    # The best keeps 0 with room for 1: third, fourth, last. For 2 it does not keep the 2 and hits 1 as well.
    assert belady_hits(model, ROOMS).tolist() == [3 / 7, 4 / 7, 4 / 7, 4 / 7]


@pytest.mark.parametrize("seed", range(5))
def test_belady_is_the_best_of_all_that_can_be_kept(seed: int) -> None:
    model = np.random.default_rng(seed).integers(0, 4, 14)

    @cache
    def best(k: int, kept: frozenset[int], room: int) -> int:
        if k == len(model):
            return 0
        own = int(model[k])
        if own in kept:
            return 1 + best(k + 1, kept, room)
        choices = [kept]  # served, and not kept
        if len(kept) < room:
            choices.append(kept | {own})
        choices += [kept - {other} | {own} for other in kept]
        return max(best(k + 1, choice, room) for choice in choices)

    wanted = [best(0, frozenset(), int(room)) / len(model) for room in ROOMS]
    assert belady_hits(model, ROOMS) == pytest.approx(wanted)
    assert (lru_hits(model, ROOMS) <= belady_hits(model, ROOMS) + 1e-12).all()


@pytest.mark.parametrize("seed", range(3))
def test_lru_is_a_list_of_what_was_asked_for_last(seed: int) -> None:
    model = np.random.default_rng(seed).integers(0, 6, 200)
    for room, ratio in zip(ROOMS, lru_hits(model, ROOMS), strict=True):
        kept: list[int] = []
        hits = 0
        for own in model.tolist():
            hits += own in kept
            kept = [own, *(other for other in kept if other != own)][:room]
        assert ratio == hits / len(model)
