# SPDX-License-Identifier: Apache-2.0
"""The benchmark suite: how fast the simulator, the rules, the policy and training are on this machine.

Every row is a rate or a cost with its unit, the median of several repeats after a warm-up, in wall time and in
processor time; the second is the one to compare on a shared machine. Nothing is asserted: numbers belong to machines.
What there is to measure of a kind of world is in the module of this folder that has the kind's name.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from edgegen.envs.core.device import is_gpu
from edgegen.envs.core.kinds import kinds
from edgegen.envs.core.scenarios import load_scenario
from edgegen.envs.core.threads import available_cpus
from edgegen.platform.bench.earlier import FORMAT
from edgegen.platform.bench.floors import Rates, measure_rates
from edgegen.platform.bench.measuring import BenchRun, KindBench, Measurement
from edgegen.platform.bench.peers import OURS, peers
from edgegen.platform.screen import PlainTable


@dataclass(frozen=True)
class BenchReport:
    """All measurements of a run, and where they were taken."""

    scenario: str
    seed: int
    quick: bool
    machine: dict[str, Any]
    measurements: tuple[Measurement, ...]
    rates: Rates | None = None
    peers: tuple[Measurement, ...] = ()

    def table(self, earlier: Mapping[str, float] | None = None) -> PlainTable:
        """Lay the measurements out for a terminal.

        Args:
            earlier: What was measured earlier, by processor time and name, to compare with.
        """
        machine = self.machine
        where = "" if machine["device"] == "cpu" else f"{machine['device']}, with "
        table = PlainTable(
            title=f"{self.scenario} on {where}{machine['processor']}, {machine['cores']} cores, "
            f"{machine['torch_threads']} torch threads",
            caption="Medians after a warm-up. cpu counts the processor time of this process, all threads."
            + self._floors(),
        )
        columns = ["measured", "wall", "cpu", "unit", "repeats", *(["floor"] if self.rates else [])]
        columns += [] if earlier is None else ["earlier", "faster"]
        for column in columns:
            table.add_column(column, justify="left" if column in ("measured", "unit") else "right", no_wrap=True)
        for row in self.measurements:
            cells = [row.name, _number(row.wall), _number(row.cpu), row.unit, str(row.repeats)]
            if self.rates:
                distance = distance_to_floor(row, self.rates)
                cells.append("" if distance is None else f"{distance:.1f}x")
            if earlier is not None:
                before = earlier.get(row.name)
                cells += ["", ""] if not before else [_number(before), f"{faster(row, before):.2f}x"]
            table.add_row(*cells)
        return table

    def _floors(self) -> str:
        if self.rates is None:
            return ""
        return (
            f" floor: how many times as long it takes as its arithmetic at {self.rates.operations_s / 1e9:.0f} billion "
            f"operations/s or its memory traffic at {self.rates.moved_bytes_s / 1e9:.1f} GB/s, whichever is longer."
        )

    def peers_table(self) -> PlainTable:
        """Lay out what other libraries' runners play in the same world."""
        table = PlainTable(
            title="The same PettingZoo world, one policy for all servers, in one process",
            caption="Decisions per second of processor time, and how many times as many edgegen's runner makes.",
        )
        ours = [row for row in self.peers if row.name.startswith(OURS)]
        table.add_column("who")
        for title in ("decisions/s", *(row.name.removeprefix(f"{OURS} plays, ") for row in ours)):
            table.add_column(title, justify="right")
        for row in self.peers:
            table.add_row(row.name, _number(row.cpu), *(f"{own.cpu / row.cpu:,.1f}x" for own in ours))
        return table

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"format": FORMAT, **asdict(self)}


def faster(row: Measurement, before: float) -> float:
    """How many times as fast as earlier something is, by processor time."""
    return row.cpu / before if row.unit.endswith("/s") else before / row.cpu


def distance_to_floor(row: Measurement, rates: Rates) -> float | None:
    """How many times as long as its floor a thing takes, by processor time; None where its least is not known."""
    if row.least is None:
        return None
    return (1 / row.cpu if row.unit.endswith("/s") else row.cpu) / rates.floor_s(row.least)


def run_bench(
    quick: bool = False,
    seed: int = 0,
    on_measurement: Callable[[str], None] | None = None,
    training: bool = True,
    device: str = "cpu",
    with_peers: bool = False,
) -> BenchReport:
    """Measure everything.

    Args:
        quick: Fewer repeats and shorter episodes.
        seed: Seed of arrivals and policies.
        on_measurement: Called with the name of each group of measurements before it starts.
        training: Include training, which starts Ray.
        device: Where simulators, policies and updates run. Whole trainings, whose simulators are on the CPU, are
            not measured with a GPU.
        with_peers: Also measure the runners of other libraries that are installed, in this process.
    """
    run = BenchRun(quick, seed, device, on_measurement or (lambda name: None))
    found = kind_benches()
    rows = [row for bench in found for row in bench.simulators(run)]
    rows += [row for bench in found for row in bench.policies(run)]
    if training:
        rows += [row for bench in found for row in bench.trainings(run)]
    rates = None if is_gpu(device) else measure_rates()
    others = tuple(peers(run)) if with_peers else ()
    name = load_scenario(found[0].SCENARIO).name
    return BenchReport(name, seed, quick, machine_info(device), tuple(rows), rates, others)


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
