# SPDX-License-Identifier: Apache-2.0
"""Memory that a pipeline takes: its weights, and what comes on top while pictures are made."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from edgegen.envs.core.device import is_gpu

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def weights_bytes(pipeline: Any) -> int:
    """Bytes of the weights and buffers of every network of a pipeline, shared ones counted once."""
    tensors = {
        id(tensor): tensor.numel() * tensor.element_size()
        for part in pipeline.components.values()
        if isinstance(part, torch.nn.Module)
        for tensor in (*part.parameters(), *part.buffers())
    }
    return sum(tensors.values())


class PeakMemory:
    """The most memory that was in use since this object was made, beyond what was in use then.

    On a GPU that of its tensors; on a CPU that of the process, by the high-water mark that Linux keeps of it. Other
    systems know only the mark of the whole life of a process, which says less where loading took more.

    Args:
        device: A torch device.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        if is_gpu(device):
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            if _CLEAR.exists():
                _CLEAR.write_text("5")  # sets the mark back to what is in use now
            self._before = psutil.Process().memory_info().rss

    def grown_bytes(self) -> int:
        """Return the growth, bytes."""
        peak = torch.cuda.max_memory_allocated(self._device) if is_gpu(self._device) else _process_peak_bytes()
        return max(0, peak - self._before)


def _process_peak_bytes() -> int:
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
