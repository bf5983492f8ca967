# SPDX-License-Identifier: Apache-2.0
"""Provisioning scenarios: which models can be cached where, who asks for them, and over which links.

The world is that of T2DRL, after arXiv 2411.01458: models are cached once per frame, bandwidth and computing are
allocated in every slot. Only these facts, user mobility and time-varying channels (arXiv 2411.08672) are the papers';
every constant, and every rule not marked otherwise, is our choice and can be changed here.

Symbols in brackets are those of the equations in :mod:`edgegen.envs.provisioning.world`.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from edgegen.envs.core.distributions import Amount, Span
from edgegen.envs.core.fields import MOST_CELLS, SINGLE_MAX, Count, NonNegative, Positive, Real, Share
from edgegen.envs.core.objectives import JudgedScenario
from edgegen.envs.provisioning.curves import CONSTANTS, CurveSet, load_curves
from edgegen.envs.provisioning.parts import (
    AllocationRule,
    DrawnCurves,
    DrawnSizes,
    Drift,
    Mobility,
    SkewnessChain,
)
from edgegen.envs.provisioning.terms import KIND as TERMS_KIND

MOST_LOSS_DB = 300
"""Largest path loss or gain, dB; single precision ends near 380."""

Several = Annotated[Count, Field(le=100_000)]
Power = Annotated[Real, Field(ge=-300, le=100)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, int | float) else value


def _sizes_tag(value: Any) -> str:
    return "(drawn)" if isinstance(value, dict | DrawnSizes) else "(listed)"


def _curves_tag(value: Any) -> str:
    drawn = isinstance(value, DrawnCurves) or (isinstance(value, dict) and "curves" not in value)
    return "(drawn)" if drawn else "(listed)"


class ProvisioningScenario(JudgedScenario):
    """Edge servers that cache generative models for the users of their cells, and a cloud that holds all models.

    Attributes:
        cells: Cells C, each with a base station and an edge server of its own.
        users: Users N in each cell; everyone asks for one picture per slot.
        models: Generative models M.
        frames: Frames T of an episode; models are cached once per frame.
        slots_per_frame: Slots K of a frame; bandwidth and computing are allocated in every slot.
        size_gb: Storage each model takes [c_m], GB: one number per model, or drawn.
        storage_gb: Storage of the edge servers [C], GB: one number for all cells or one each.
        steps_per_slot: Denoising steps an edge server can make in a slot [X]: one number for all cells or one each.
        curves: Quality and generation time of each model: the name or path of a curve file, its content, or ranges.
        skewness: Zipf skewness of the requests [γ].
        drift: Changes of the models' ranking.
        upload_mb: Size of the prompt or picture sent up [d_in], MB, drawn per user and slot.
        result_mb: Size of the picture sent back [d_out], MB, drawn per user and slot.
        side_m: Side of the square cell with the server in the middle, m.
        mobility: How users move.
        distance_factor: The distance of user n from the server is stretched by a factor, evenly spaced from ``low``
            for the first user to ``high`` for the last: some are always further away than others.
        min_distance_m: Nobody comes closer to the server than this, m.
        path_loss_db: Path loss at a distance of 1 km, dB.
        path_loss_db_per_decade: Path loss per tenfold distance, dB.
        fading: Factor on the power gain, drawn per user and slot: ``exponential`` with mean 1, ``rayleigh`` with
            scale 1 (physically an amplitude; public code multiplies the power by it), or ``none``.
        noise_dbm_hz: Noise power density [N_0], dBm/Hz.
        noise_total_dbm: If given, the noise power whatever the bandwidth, dBm, instead of the density.
        uplink_mhz: Uplink bandwidth of a cell [W_up], MHz, divided by decision.
        downlink_mhz: Downlink bandwidth of a cell [W_dn], MHz, divided equally.
        user_power_dbm: Transmit power of a user [p_n], dBm.
        station_power_dbm: Transmit power of a base station [p_BS], dBm, divided equally.
        backhaul_mbit_s: Rate between all cells together and the cloud [R_bh], Mbit/s.
        backhaul_shared_by: ``users``: an equal share for every user of every cell; ``misses``: for every user whose
            request goes to the cloud in this slot, so that what one cell caches helps the others.
        cloud_time_factor: Generation time in the cloud relative to the edge.
        min_bandwidth_share: Least bandwidth share of a user.
        delay_weight: Weight of delay against TV in the cost [α].
        max_delay_s: Delay beyond which a request is late [D_max], s; none if not given.
        late_penalty: Taken from the reward for the share of late requests [Ξ_d].
        overflow_penalty_per_gb: Taken from a frame's reward per GB cached beyond the storage [Ξ_c].
        switching_weight: Taken from a frame's reward per second it takes to fetch newly cached models [κ].
        caching_amender: Name of the rule that makes caching decisions fit the storage.
        allocation_amender: How raw actions become shares.
        slot_s: Length of a slot, s; only what electricity costs depends on it.
    """

    files: ClassVar[tuple[str, ...]] = ("curves",)
    judged_as: ClassVar[str] = TERMS_KIND

    kind: Literal["provisioning"] = "provisioning"
    cells: Several = 1
    users: Several
    models: Several
    frames: Several
    slots_per_frame: Several
    size_gb: Annotated[
        Annotated[DrawnSizes, Tag("(drawn)")] | Annotated[tuple[Positive, ...], Tag("(listed)")],
        Discriminator(_sizes_tag),
    ]
    storage_gb: Annotated[tuple[Positive, ...], BeforeValidator(_as_list)]
    steps_per_slot: Annotated[tuple[Several, ...], BeforeValidator(_as_list)]
    curves: Annotated[
        Annotated[DrawnCurves, Tag("(drawn)")] | Annotated[CurveSet, Tag("(listed)")], Discriminator(_curves_tag)
    ]
    skewness: SkewnessChain
    drift: Drift = Drift()
    upload_mb: Amount
    result_mb: Amount
    side_m: Positive
    mobility: Mobility = Mobility()
    distance_factor: Span = Span(low=1, high=1)
    min_distance_m: Positive = 1.0
    path_loss_db: Real
    path_loss_db_per_decade: NonNegative
    fading: Literal["exponential", "rayleigh", "none"] = "exponential"
    noise_dbm_hz: Power
    noise_total_dbm: Power | None = None
    uplink_mhz: Positive
    downlink_mhz: Positive
    user_power_dbm: Power
    station_power_dbm: Power
    backhaul_mbit_s: Positive
    backhaul_shared_by: Literal["users", "misses"] = "users"
    cloud_time_factor: NonNegative = 1.0
    min_bandwidth_share: Annotated[Positive, Field(le=1)] = 1e-3
    delay_weight: Share
    max_delay_s: Positive | None = None
    late_penalty: NonNegative = 0.0
    overflow_penalty_per_gb: NonNegative = 1.0
    switching_weight: NonNegative = 0.0
    caching_amender: Literal["drop", "penalty"] = "drop"
    allocation_amender: AllocationRule = AllocationRule()
    slot_s: Positive | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if isinstance(self.size_gb, tuple) and len(self.size_gb) != self.models:
            raise ValueError(f"size_gb has {len(self.size_gb)} entries for {self.models} models; give one each")
        if isinstance(self.curves, CurveSet):
            self.curves.per_model(self.models)
        for field in ("storage_gb", "steps_per_slot"):
            value = getattr(self, field)
            if len(value) not in (1, self.cells):
                raise ValueError(
                    f"{field} has {len(value)} entries for {self.cells} cells; give one for all or one each"
                )
        if self.min_bandwidth_share * self.users > 1:
            raise ValueError(
                f"min_bandwidth_share ({self.min_bandwidth_share:g}) times users ({self.users}) must not exceed 1"
            )
        if self.distance_factor.low == 0:
            raise ValueError("distance_factor.low must be greater than 0")
        return self

    @model_validator(mode="after")
    def _within_reach(self) -> Self:
        """Refuse episodes that no memory holds, and what single precision does not hold."""
        per_slot = (self.frames * self.slots_per_frame, self.cells, self.users)
        per_frame = (self.frames + 1, self.cells, self.models)
        swaps = (self.frames, self.cells, 2 * self.drift.swaps_per_frame)
        for names, sizes in (
            ("frames times slots_per_frame, cells and users", per_slot),
            ("frames, cells and models", per_frame),
            ("frames, cells and twice drift.swaps_per_frame", swaps),
        ):
            if math.prod(sizes) > MOST_CELLS:
                raise ValueError(
                    f"{names} ({', '.join(map(str, sizes))}) make {math.prod(sizes)} values in an episode, but at most "
                    f"{MOST_CELLS} are allowed"
                )
        for distance_m in (self.min_distance_m, self.largest_distance_m):
            loss_db = self.path_loss_db + self.path_loss_db_per_decade * math.log10(distance_m / 1000)
            if abs(loss_db) > MOST_LOSS_DB:
                raise ValueError(
                    f"path_loss_db and path_loss_db_per_decade make {loss_db:.4g} dB at {distance_m:g} m, but losses "
                    f"must be between {-MOST_LOSS_DB} and {MOST_LOSS_DB} dB"
                )
        if self.largest_cost > SINGLE_MAX:
            raise ValueError(
                f"delays and penalties could reach {self.largest_cost:.3g}, but must stay below {SINGLE_MAX:g}; look "
                "at upload_mb, result_mb, size_gb, uplink_mhz, downlink_mhz, backhaul_mbit_s, the powers, the noise, "
                "curves, cloud_time_factor and the weights of penalties"
            )
        return self

    def _given(self, data: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`JudgedScenario._given`."""
        data = super()._given(data)
        if self.slot_s is None:
            data.pop("slot_s", None)
        return data

    @property
    def powered(self) -> tuple[int, str]:
        """See :attr:`JudgedScenario.powered`."""
        return self.cells, "cell"

    @property
    def cells_of_an_episode(self) -> int:
        """Entries of the largest array of an episode."""
        return self.cells * max(self.slots * self.users, (self.frames + 1) * self.models)

    @property
    def largest_distance_m(self) -> float:
        """Distance from its server that no user exceeds, m."""
        return max(self.min_distance_m, self.side_m * math.sqrt(0.5) * self.distance_factor.high)

    @property
    def largest_cost(self) -> float:
        """A bound of all delays, penalties and costs, of the farthest user with the smallest share and little luck."""
        loss_db = self.path_loss_db + self.path_loss_db_per_decade * math.log10(self.largest_distance_m / 1000)

        def mbit_s(share: float, mhz: float, power_dbm: float) -> float:
            noise_dbm = self.noise_total_dbm
            if noise_dbm is None:
                noise_dbm = self.noise_dbm_hz + 10 * math.log10(share * mhz * 1e6)
            # A fade to a millionth comes once in a million draws.
            return share * mhz * math.log1p(10 ** ((power_dbm - loss_db - noise_dbm) / 10 - 6)) / math.log(2)

        up = mbit_s(self.min_bandwidth_share, self.uplink_mhz, self.user_power_dbm)
        down = mbit_s(1 / self.users, self.downlink_mhz, self.station_power_dbm - 10 * math.log10(self.users))
        back = self.backhaul_mbit_s / (self.cells * self.users)
        if min(up, down) < 1 / SINGLE_MAX:
            return math.inf
        sent, got = 8 * self.upload_mb.high, 8 * self.result_mb.high
        _, tv, steps, _, per_step, once = self.largest_curve_constants
        delay_s = (
            sent / up + got / down + (sent + got) / back + (steps * per_step + once) * max(1, self.cloud_time_factor)
        )
        stored_gb = self.models * self.largest_size_gb
        penalty = (
            self.overflow_penalty_per_gb * stored_gb + self.switching_weight * 8000 * stored_gb / self.backhaul_mbit_s
        )
        return max(delay_s, 8000 * stored_gb / self.backhaul_mbit_s, delay_s + tv + penalty + self.late_penalty)

    @classmethod
    def prepared(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return data that holds the content of a curve file in the place of its name, so that it stands alone."""
        return {**data, "curves": load_curves(data["curves"])} if isinstance(data.get("curves"), str) else data

    @property
    def slots(self) -> int:
        """Slots of an episode, T·K."""
        return self.frames * self.slots_per_frame

    @property
    def storage_per_cell_gb(self) -> tuple[float, ...]:
        """Storage of each cell's server, GB."""
        return self.storage_gb * (self.cells // len(self.storage_gb))

    @property
    def steps_per_cell(self) -> tuple[int, ...]:
        """Steps each cell's server can make in a slot."""
        return self.steps_per_slot * (self.cells // len(self.steps_per_slot))

    @property
    def largest_size_gb(self) -> float:
        """Storage no model takes more than, GB."""
        return self.size_gb.high if isinstance(self.size_gb, DrawnSizes) else max(self.size_gb)

    @property
    def largest_curve_constants(self) -> tuple[float, ...]:
        """Values that A1, A2, A3, A4, B1 and B2 of no model exceed."""
        if isinstance(self.curves, DrawnCurves):
            a1, a2, a3, a4, b1, b2 = (getattr(self.curves, name).high for name in CONSTANTS)
            return (math.ceil(a1), a2, math.ceil(a3), a4, b1, b2)  # steps are rounded
        return tuple(max(getattr(curve, name) for curve in self.curves.curves) for name in CONSTANTS)

    def rank_popularity(self) -> np.ndarray:
        """Probability of a request for the model of each rank, by state of the skewness ``[J, M]``, float64.

        Zipf: P(m) = m^−γ / Σ_j j^−γ (our choice).
        """
        rank = np.arange(1, self.models + 1, dtype=np.float64)
        weight = rank ** -np.array(self.skewness.states, dtype=np.float64)[:, None]
        return np.asarray(weight / weight.sum(1, keepdims=True))

    def static_popularity(self) -> np.ndarray:
        """Return what is known of the models' popularity before anything was asked for ``[M]``, float64.

        The mean over the stationary skewness, models in the order of their numbers; equal for a shuffled start.
        """
        if self.drift.start == "shuffled":
            return np.full(self.models, 1 / self.models)
        return np.asarray(self.skewness.stationary() @ self.rank_popularity())
