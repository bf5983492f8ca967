"""The benchmark suite: how fast the simulator, the rules, the policy and training are on this machine.

Every row is a rate or a cost with its unit, the median of several repeats after a warm-up, in wall time and in
processor time; the second is the one to compare on a shared machine. Nothing is asserted: numbers belong to machines.
What there is to measure of a kind of world is in the module of this folder that has the kind's name.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from edgegen.envs.core.device import is_gpu
from edgegen.envs.core.kinds import kinds
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.core.threads import available_cpus
from edgegen.platform.bench.measuring import BenchRun, KindBench, Measurement
from edgegen.platform.screen import PlainTable


@dataclass(frozen=True)
class BenchReport:
    """All measurements of a run, and where they were taken."""

    scenario: str
    seed: int
    quick: bool
    machine: dict[str, Any]
    measurements: tuple[Measurement, ...]

    def table(self) -> PlainTable:
        """Lay the measurements out for a terminal."""
        machine = self.machine
        where = "" if machine["device"] == "cpu" else f"{machine['device']}, with "
        table = PlainTable(
            title=f"{self.scenario} on {where}{machine['processor']}, {machine['cores']} cores, "
            f"{machine['torch_threads']} torch threads",
            caption="Medians after a warm-up. cpu counts the processor time of this process, all threads.",
        )
        for column in ("measured", "wall", "cpu", "unit", "repeats"):
            table.add_column(column, justify="left" if column in ("measured", "unit") else "right", no_wrap=True)
        for row in self.measurements:
            table.add_row(row.name, _number(row.wall), _number(row.cpu), row.unit, str(row.repeats))
        return table

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"format": "edgegen-bench-1", **asdict(self)}


def run_bench(
    quick: bool = False,
    seed: int = 0,
    on_measurement: Callable[[str], None] | None = None,
    training: bool = True,
    device: str = "cpu",
) -> BenchReport:
    """Measure everything.

    Args:
        quick: Fewer repeats and shorter episodes.
        seed: Seed of arrivals and policies.
        on_measurement: Called with the name of each group of measurements before it starts.
        training: Include training, which starts Ray.
        device: Where simulators, policies and updates run. Whole trainings, whose simulators are on the CPU, are
            not measured with a GPU.
    """
    run = BenchRun(quick, seed, device, on_measurement or (lambda name: None))
    found = kind_benches()
    rows = [row for bench in found for row in bench.simulators(run)]
    rows += [row for bench in found for row in bench.policies(run)]
    if training:
        rows += [row for bench in found for row in bench.trainings(run)]
    return BenchReport(load_scenario(found[0].SCENARIO).name, seed, quick, machine_info(device), tuple(rows))


def kind_benches() -> list[KindBench]:
    """Return what there is to measure of each kind of world that has benchmarks."""
    named = [f"{__package__}.{kind}" for kind in kinds() if kind.isidentifier()]
    modules = [importlib.import_module(name) for name in named if importlib.util.find_spec(name)]
    return [cast(KindBench, module) for module in modules if hasattr(module, "SCENARIO")]


def machine_info(device: str = "cpu") -> dict[str, Any]:
    """Describe the machine and the libraries that the numbers depend on."""
    return {
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if is_gpu(device) else device,
        "cores": available_cpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
