# SPDX-License-Identifier: Apache-2.0
"""Torch devices: refusing one that is not there, telling GPUs, and waiting for one."""

from __future__ import annotations

import torch

from edgegen.envs.core.errors import InputError


def check_device(device: str) -> None:
    """Refuse a device that can not be used.

    Args:
        device: A torch device such as ``cpu`` or ``cuda:0``.

    Raises:
        InputError: If there is no such device here.
    """
    try:
        torch.empty(1, device=device).sum().item()
    except (RuntimeError, AssertionError, ValueError) as error:  # torch raises each of these, by device and build
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"Device '{device}' can not be used: {reason}.") from None


def is_gpu(device: torch.device | str) -> bool:
    """Whether a device is a CUDA GPU; ``cpu:0`` is none."""
    return torch.device(device).type == "cuda"


def finish(device: torch.device | str) -> None:
    """Wait until a device has done what was asked of it: a GPU works on after a call has returned."""
    if is_gpu(device):
        torch.cuda.synchronize(device)
