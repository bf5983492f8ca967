# SPDX-License-Identifier: Apache-2.0
import gc
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from edgegen.serve.profile import loads
from edgegen.serve.profile.loads import forget, measure_loads, model_files
from edgegen.serve.profile.memory import PeakMemory
from edgegen.serve.zoo import embedded_models

NAME = "shapes-64-fast"


def test_the_files_of_a_model_are_those_of_its_folder(tmp_path):
    files = model_files(NAME)
    assert embedded_models()[NAME] / "unet" / "diffusion_pytorch_model.safetensors" in files
    assert model_files(str(tmp_path)) == []
    assert model_files("somebody/some-model") == model_files("not a name") == []


def test_a_cold_load_begins_when_the_files_are_forgotten(tmp_path, monkeypatch):
    path, told = tmp_path / "weights", []
    path.write_bytes(b"x" * 100)
    monkeypatch.setattr(os, "posix_fadvise", lambda file, start, length, advice: told.append("forgotten"))

    def load():
        told.append("loaded")
        return object()

    found, pipeline = measure_loads(load, [path], "cpu", 2)
    # The first one, two cold ones, two warm ones.
    assert told == ["loaded", *["forgotten", "loaded"] * 2, "loaded", "loaded"]
    assert (len(found.cold_s), len(found.warm_s), found.moved_s) == (2, 2, ())
    assert pipeline is not None


def test_without_a_way_to_forget_there_are_no_cold_loads(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    assert not forget([tmp_path])
    found, _ = measure_loads(object, [tmp_path], "cpu", 1)
    assert (found.cold_s, len(found.warm_s)) == ((), 1)


def test_a_gpu_takes_the_pipeline_from_the_host(monkeypatch):
    moves = []

    class Pipeline:
        def to(self, device):
            moves.append(device)
            return self

    monkeypatch.setattr(loads, "is_gpu", lambda device: True)
    monkeypatch.setattr(loads, "finish", lambda device: None)
    found, _ = measure_loads(Pipeline, [], "cuda:0", 2)
    assert moves == ["cpu", "cuda:0"] * 2
    assert len(found.moved_s) == len(found.warm_s) == 2


def test_two_copies_never_lie_in_memory():
    class Pipeline:
        alive = 0

        def __init__(self):
            Pipeline.alive += 1
            assert Pipeline.alive == 1

        def __del__(self):
            Pipeline.alive -= 1

    _, kept = measure_loads(Pipeline, model_files(NAME), "cpu", 2)
    assert kept is not None
    assert Pipeline.alive == 1


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux keeps a mark that can be set back")
def test_a_peak_is_seen_after_it_is_over_and_none_from_before():
    large = np.ones(30_000_000)
    del large
    gc.collect()
    memory = PeakMemory("cpu")
    with mmap.mmap(-1, 80_000_000) as block:  # goes back to the system when it is closed
        block.write(b"x" * 80_000_000)
    assert memory.grown_bytes() >= 75_000_000
    assert PeakMemory("cpu").grown_bytes() < 20_000_000
