# SPDX-License-Identifier: Apache-2.0
"""Requests: who asks for which model from where, for whole episodes, drawn on streams of their own.

Everything that happens to a provisioning world from outside depends on the scenario, the seed and the episode's number
alone: not on the policy, the device, or how many copies are simulated side by side. Every kind of quantity has its own
stream, so that changing how users move does not change what they ask for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgegen.envs.core.radio import path_gain
from edgegen.envs.provisioning.curves import CONSTANTS, CurveSet, CurveTensors
from edgegen.envs.provisioning.parts import DrawnCurves, DrawnSizes
from edgegen.envs.provisioning.scenario import ProvisioningScenario

MBIT_PER_MB = 8.0

# Numbers of the streams; a new one goes to the end.
_SKEWNESS, _RANKS, _MODELS, _DATA, _PLACES, _FADING, _SIZES, _CURVES = range(8)

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Episodes:
    """What happens from outside in E episodes of T frames, S = T·K slots, C cells, N users per cell and M models.

    Frames have one entry more than are played, it only supplies a last state.

    Attributes:
        skewness_state: State of the skewness chain ``[E, T + 1, C]``, int64.
        model_at_rank: Models in the order of their popularity ``[E, T + 1, C, M]``, int64.
        popularity: Probability of a request for each model ``[E, T + 1, C, M]``.
        frequency: Share of each model in the requests of the frame before ``[E, T + 1, C, M]``; 0 in the first frame.
        model: Model each user asks for ``[E, S, C, N]``, int64.
        upload_mbit: Data each user sends up ``[E, S, C, N]``, Mbit.
        result_mbit: Data each user gets back ``[E, S, C, N]``, Mbit.
        gain: Power gain between each user and the base station ``[E, S, C, N]``, a plain ratio.
        size_gb: Storage each model takes ``[E, M]``, GB, float64 so that an exact fit stays one.
        curves: Quality and generation time of each model ``[E, M]``.
    """

    skewness_state: Tensor
    model_at_rank: Tensor
    popularity: Tensor
    frequency: Tensor
    model: Tensor
    upload_mbit: Tensor
    result_mbit: Tensor
    gain: Tensor
    size_gb: Tensor
    curves: CurveTensors


def draw_requests(
    scenario: ProvisioningScenario,
    seed: int,
    episodes: range,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Episodes:
    """Draw whole episodes.

    Args:
        scenario: The world.
        seed: Root of the streams.
        episodes: Numbers of the episodes; each has independent generators spawned from (seed, number).
        device: Where the tensors go. Numbers are drawn on the host, so they do not depend on it.
        dtype: Floating-point type of the quantities.
    """
    frames, slots, cells, models = scenario.frames, scenario.slots, scenario.cells, scenario.models
    state = _walk_chain(scenario, _uniform(seed, episodes, _SKEWNESS, (frames + 1, cells)))
    model_at_rank = _drift(scenario, seed, episodes)
    by_rank = torch.from_numpy(scenario.rank_popularity())  # [J, M]
    edges = by_rank.cumsum(1)
    edges = edges / edges[:, -1:]

    frame_state, frame_order = torch.from_numpy(state), torch.from_numpy(model_at_rank)
    popularity = torch.zeros(frame_order.shape, dtype=by_rank.dtype)
    popularity.scatter_(-1, frame_order, by_rank[frame_state])

    per_frame = (frames, cells, scenario.slots_per_frame * scenario.users)
    random = torch.from_numpy(_uniform(seed, episodes, _MODELS, per_frame))
    rank = torch.searchsorted(edges[frame_state[:, :frames]], random, right=True).clamp_max_(models - 1)
    model = frame_order[:, :frames].gather(-1, rank)  # [E, T, C, K·N]
    counts = torch.zeros_like(popularity)
    counts[:, 1:].scatter_add_(-1, model, torch.ones((), dtype=counts.dtype).expand(model.shape))
    frequency = counts / (scenario.slots_per_frame * scenario.users)
    by_slot = (len(episodes), frames, cells, scenario.slots_per_frame, scenario.users)
    model = model.view(by_slot).transpose(2, 3).reshape(len(episodes), slots, cells, scenario.users)

    data = _uniform(seed, episodes, _DATA, (2, slots, cells, scenario.users))
    spans = (scenario.upload_mb, scenario.result_mb)
    upload, result = (span.values(data[:, i]) * MBIT_PER_MB for i, span in enumerate(spans))
    return Episodes(
        skewness_state=frame_state.to(device),
        model_at_rank=frame_order.to(device),
        popularity=popularity.to(device, dtype),
        frequency=frequency.to(device, dtype),
        model=model.to(device),
        upload_mbit=torch.from_numpy(upload).to(device, dtype),
        result_mbit=torch.from_numpy(result).to(device, dtype),
        gain=torch.from_numpy(_gains(scenario, seed, episodes)).to(device, dtype),
        size_gb=torch.from_numpy(_sizes(scenario, seed, episodes)).to(device),
        curves=_curves(scenario, seed, episodes, device, dtype),
    )


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _uniform(seed: int, episodes: range, stream: int, shape: tuple[int, ...]) -> _Floats:
    """Uniform numbers in [0, 1) ``[E, *shape]`` of one stream."""
    drawn = np.empty((len(episodes), *shape))
    for row, number in zip(drawn, episodes, strict=True):
        _generator(seed, number, stream).random(out=row)
    return drawn


def _walk_chain(scenario: ProvisioningScenario, random: _Floats) -> NDArray[np.int64]:
    """States of the skewness chain ``[E, T + 1, C]`` from uniform numbers of that shape."""
    last = len(scenario.skewness.states) - 1
    first, following = scenario.skewness.start().cumsum(), scenario.skewness.matrix().cumsum(1)
    state = np.empty(random.shape, dtype=np.int64)
    state[:, 0] = (random[:, 0, :, None] >= first).sum(-1)
    for frame in range(1, random.shape[1]):
        before = state[:, frame - 1].clip(max=last)
        state[:, frame] = (random[:, frame, :, None] >= following[before]).sum(-1)
    return state.clip(max=last)  # a sum of probabilities may end just below one


def _drift(scenario: ProvisioningScenario, seed: int, episodes: range) -> NDArray[np.int64]:
    """Models in the order of their popularity ``[E, T + 1, C, M]``."""
    drift, models, cells = scenario.drift, scenario.models, scenario.cells
    order = np.empty((len(episodes), scenario.frames + 1, cells, models), dtype=np.int64)
    swaps = drift.swaps_per_frame if models > 1 else 0
    starts = models if drift.start == "shuffled" else 0
    if not swaps and not starts:
        order[:] = np.arange(models)
        return order
    random = _uniform(seed, episodes, _RANKS, (cells, starts + scenario.frames * swaps * 2))
    current = np.argsort(random[..., :starts], axis=-1, kind="stable") if starts else np.arange(models)
    current = np.broadcast_to(current, order[:, 0].shape).copy()
    picks = random[..., starts:].reshape(len(episodes), cells, scenario.frames, swaps, 2)
    order[:, 0] = current
    for frame in range(scenario.frames):
        for swap in range(swaps):
            pick = picks[:, :, frame, swap]
            if drift.swap == "adjacent":
                one = (pick[..., :1] * (models - 1)).astype(np.int64)
                other = one + 1
            else:
                one = (pick[..., :1] * models).astype(np.int64)
                other = (one + 1 + (pick[..., 1:] * (models - 1)).astype(np.int64)) % models
            at_one, at_other = (np.take_along_axis(current, place, -1) for place in (one, other))
            np.put_along_axis(current, one, at_other, -1)
            np.put_along_axis(current, other, at_one, -1)
        order[:, frame + 1] = current
    return order


def _gains(scenario: ProvisioningScenario, seed: int, episodes: range) -> _Floats:
    """Power gains ``[E, S, C, N]``."""
    shape = (scenario.slots, scenario.cells, scenario.users)
    factor = np.linspace(scenario.distance_factor.low, scenario.distance_factor.high, scenario.users)
    gain = np.empty((len(episodes), *shape))
    # Episode by episode: results of vectorised functions may depend, in the last bit, on the length of the array.
    for row, number in zip(gain, episodes, strict=True):
        distance_m = _distances(scenario, _generator(seed, number, _PLACES), shape) * factor
        distance_m = distance_m.clip(min=scenario.min_distance_m)
        row[:] = path_gain(distance_m, scenario.path_loss_db, scenario.path_loss_db_per_decade)
        rng = _generator(seed, number, _FADING)
        if scenario.fading == "exponential":
            row *= rng.standard_exponential(shape)
        elif scenario.fading == "rayleigh":
            row *= rng.rayleigh(1.0, shape)
    return gain


def _distances(scenario: ProvisioningScenario, rng: np.random.Generator, shape: tuple[int, ...]) -> _Floats:
    """Distances from the server in the middle of the square ``[S, C, N]``, m."""
    mobility, side = scenario.mobility, scenario.side_m
    if mobility.kind == "redraw":
        place = rng.random((2, *shape)) * side
    else:
        place = np.broadcast_to(rng.random((2, 1, *shape[1:])) * side, (2, *shape))
    if mobility.kind == "walk":
        step = rng.standard_normal((2, *shape)) * mobility.sigma_m
        step[:, 0] = 0
        # Reflection at both borders is a triangle wave of period 2·side.
        place = (place + step.cumsum(1)) % (2 * side)
        place = np.where(place > side, 2 * side - place, place)
    return np.asarray(np.hypot(*(place - side / 2)))


def _sizes(scenario: ProvisioningScenario, seed: int, episodes: range) -> _Floats:
    """Storage of the models ``[E, M]``, GB."""
    sizes = scenario.size_gb
    if not isinstance(sizes, DrawnSizes):
        return np.tile(np.array(sizes, dtype=np.float64), (len(episodes), 1))
    random = _world_uniform(sizes, seed, episodes, _SIZES, (scenario.models,))
    return random * (sizes.high - sizes.low) + sizes.low


def _curves(
    scenario: ProvisioningScenario, seed: int, episodes: range, device: torch.device | str, dtype: torch.dtype
) -> CurveTensors:
    """Curves of the models ``[E, M]``."""
    curves, shape = scenario.curves, (len(episodes), scenario.models)
    if isinstance(curves, CurveSet):
        listed = CurveTensors.of(curves.per_model(scenario.models), device, dtype)
        return CurveTensors(*(values.expand(shape) for values in listed.values()))
    random = _world_uniform(curves, seed, episodes, _CURVES, (scenario.models, len(CONSTANTS)))
    columns = []
    for at, name in enumerate(CONSTANTS):
        span = getattr(curves, name)
        column = random[..., at] * (span.high - span.low) + span.low
        columns.append(np.round(column) if name in ("a1_steps", "a3_steps") else column)
    return CurveTensors(*(torch.from_numpy(column).to(device, dtype) for column in columns))


def _world_uniform(
    drawn: DrawnSizes | DrawnCurves, seed: int, episodes: range, stream: int, shape: tuple[int, ...]
) -> _Floats:
    """Uniform numbers ``[E, *shape]`` for what may be the same in all episodes of a seed, or in all."""
    if drawn.drawn == "per_episode":
        return _uniform(seed, episodes, stream, shape)
    rng = _generator(drawn.seed if drawn.drawn == "once" else seed, stream)
    return np.broadcast_to(rng.random(shape), (len(episodes), *shape)).copy()
