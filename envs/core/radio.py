# SPDX-License-Identifier: Apache-2.0
"""Radio between users and their base station: path loss, and the rate of a link that has a share of a band."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def watts(dbm: float) -> float:
    """Power in W of a power in dBm, or density in W/Hz of one in dBm/Hz."""
    return float(10 ** ((dbm - 30) / 10))


def link_rate(
    share: Tensor | float,
    gain: Tensor,
    bandwidth_mhz: float,
    power_dbm: float,
    noise_dbm_hz: float,
    noise_total_dbm: float | None = None,
) -> Tensor:
    """Rate of a link that has a share of a band, without interference, Mbit/s; tensors broadcast.

    r = b W log2(1 + p h / (N_0 b W)) (our choice); with ``noise_total_dbm`` that power stands in place of N_0 b W, as
    in the public code of Q. Liu et al. (IEEE TVT 73(6), 2024).

    Args:
        share: Share b of the band.
        gain: Power gain h.
        bandwidth_mhz: Whole band W, MHz.
        power_dbm: Transmit power p, dBm.
        noise_dbm_hz: Noise power density N_0, dBm/Hz.
        noise_total_dbm: Noise power whatever the share, dBm.
    """
    if noise_total_dbm is not None:
        ratio = gain * (watts(power_dbm) / watts(noise_total_dbm))
    else:
        ratio = gain * (watts(power_dbm) / (watts(noise_dbm_hz) * bandwidth_mhz * 1e6)) / share
    # log1p is exact for weak links too, where 1 + ratio would lose them
    return share * bandwidth_mhz * (torch.log1p(ratio) / math.log(2))


def path_gain(
    distance_m: NDArray[np.float64], path_loss_db: float, path_loss_db_per_decade: float
) -> NDArray[np.float64]:
    """Mean power gain at a distance, 10^(−PL/10) with PL = a + b·log10(distance in km) dB (our choice of law).

    Args:
        distance_m: Distance, m.
        path_loss_db: Path loss a at a distance of 1 km, dB.
        path_loss_db_per_decade: Path loss b per tenfold distance, dB.
    """
    at_1_km = 10 ** (-path_loss_db / 10)
    return np.asarray(at_1_km * (distance_m / 1000) ** (-path_loss_db_per_decade / 10))
