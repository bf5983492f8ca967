# SPDX-License-Identifier: Apache-2.0
"""Files of replay shards in a checkpoint: one for each, read by as many shards as there are later, or by none."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgegen.algorithms.rllib.replay import TensorReplay

SHARDS = "shards"
"""Folder of the files."""

Contents = npt.NDArray[np.uint8]


def write_shards(checkpoint: str | Path, contents: Iterable[Contents]) -> None:
    """Write what each shard holds, one after the other, so that the driver never has more than one of them."""
    folder = Path(checkpoint) / SHARDS
    folder.mkdir()
    for number, held in enumerate(contents):
        (folder / f"shard-{number:04d}.pkl").write_bytes(held.data)


def read_shards(checkpoint: str | Path) -> list[Contents]:
    """Map the files of a checkpoint into memory; none if it is of a synchronous training."""
    return [np.memmap(path, np.uint8, mode="r") for path in sorted((Path(checkpoint) / SHARDS).glob("shard-*.pkl"))]


def whole_replay(replays: Mapping[str, Any], owed: Mapping[str, float]) -> Contents:
    """What a synchronous training holds, as if one shard held it."""
    state = {"replays": dict(replays), "owed": dict(owed), "arrived": 0, "waiting": []}
    return np.frombuffer(pickle.dumps(state, protocol=5), np.uint8)


def dealt(before: int, now: int) -> list[list[tuple[int, int, int]]]:
    """What each shard takes over when there is another number of them.

    Args:
        before: Number of shards there were.
        now: Number of shards there are.

    Returns:
        For each shard of now: shard of before, number of its part, and number of parts.
    """
    if now == before:
        return [[(shard, 0, 1)] for shard in range(now)]
    return [[(number, shard, now) for number in range(before)] for shard in range(now)]  # capacities are equal


def gather(files: Iterable[Contents], replays: Mapping[str, TensorReplay]) -> dict[str, float]:
    """Put what shards held into the replays of a synchronous training; returns updates that are owed by role."""
    owed = dict.fromkeys(replays, 0.0)
    for contents in files:
        state = pickle.loads(contents.tobytes())
        for name, replay in replays.items():
            replay.take_rows(state["replays"][name])
            owed[name] += state["owed"][name]
    return owed
