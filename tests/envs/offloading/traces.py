# SPDX-License-Identifier: Apache-2.0
"""Simulated tasks as a trace, as somebody may have recorded them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from edgegen.envs.offloading.view import Tasks


def write_trace(path: Path, tasks: Tasks, server: Tensor | None = None) -> None:
    """Write simulated tasks as a trace, slots numbered from 0.

    Args:
        path: The CSV file to write.
        tasks: Tasks ``[T, B, N]`` of one copy.
        server: Decisions ``[T, B, N]``, recorded if given.
    """
    slot, index, edge = tasks.present.transpose(1, 2).nonzero(as_tuple=True)  # [M] each
    columns: dict[str, Any] = {"slot": slot.cpu().numpy(), "edge": edge.cpu().numpy(), "index": index.cpu().numpy()}
    for name in ("size_mbit", "workload_gcycles", "result_mbit"):
        columns[name] = getattr(tasks, name)[slot, edge, index].to("cpu", torch.float64).numpy()
    if server is not None:
        columns["server"] = server[slot, edge, index].cpu().numpy()
    pd.DataFrame(columns).to_csv(path, index=False)
