# SPDX-License-Identifier: Apache-2.0
"""The order of the suite, its threads, its signals, and what is left out where there is no GPU."""

import os
import signal

import pytest

from edgegen.envs.urls import reach_directly

for address in ("http://127.0.0.1", "http://localhost"):
    reach_directly(address)  # tests ask their own servers, whatever proxy stands in the environment

# Under nohup, or in the background of a script, these are ignored, and whatever is tested would ignore them too.
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("SIGHUP", "SIGQUIT"):
    if hasattr(signal, name):  # not on Windows
        signal.signal(getattr(signal, name), signal.SIG_DFL)

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded: more of them would only wait for each other
# By default Ray's workers make way for everything else, and tests wait for them.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - its name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files whose tests start processes: they take longest, and none must be left for the end.

    The workers of a parallel run take files in this order (``--dist loadfile --no-loadscope-reorder``).
    """
    long = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: item.path not in long)
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if needing:
        import torch

        if not torch.cuda.is_available():
            for item in needing:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))
