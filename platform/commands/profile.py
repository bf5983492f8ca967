# SPDX-License-Identifier: Apache-2.0
"""``edgegen profile``: measured curves of a diffusion model, for scenarios that cache and allocate."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.platform.commands.live import require_serve_extra
from edgegen.platform.commands.options import (
    JsonOption,
    PlotOption,
    SeedOption,
    activity,
    console,
    draw_and_say,
    output_file,
    place,
    progress_console,
    refuse_same_output,
    write_then_show,
)
from edgegen.platform.process import prefer_one_thread, quiet_diffusers
from edgegen.platform.screen import PlainTable

if TYPE_CHECKING:
    from edgegen.serve.profile.curve_report import Report
    from edgegen.serve.profile.model_profile import ModelProfile

MODULES = ("diffusers", "transformers", "PIL", "psutil")
QUALITIES = ("tv", "inaccuracy", "distance")
MOST_STEPS = 1000
SELECTED = 16
MOST_TOGETHER = 256
_RANGE = re.compile(r"(\d{1,9}):(\d{1,9})(?::(\d{1,9}))?")
_COUNT = re.compile(r"\d{1,9}")


def profile(
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="NAME", callback=place, help="Embedded model, diffusers folder or hub id."
        ),
    ] = "shapes-64",
    steps: Annotated[
        str,
        typer.Option(
            metavar="COUNTS",
            help=f"Step counts: first:last picks up to {SELECTED}, closer at the low end; first:last:stride; or a list "
            "such as 1,2,4,8.",
        ),
    ] = "1:50",
    pictures: Annotated[int, typer.Option(min=1, max=10_000, help="Pictures per step count, for quality.")] = 40,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Timed pictures per step count.")] = 5,
    quality: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Quality of the curve file: tv, inaccuracy or distance.  [default: inaccuracy for embedded models, tv "
            "for others]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=str, callback=curve_file, help="Write the curve file, .yaml."),
    ] = None,
    json: JsonOption = None,
    profile_file: Annotated[
        Path | None,
        typer.Option(
            "--profile", metavar="FILE", parser=str, callback=profile_json, help="Write the model's profile, .json."
        ),
    ] = None,
    plot: PlotOption = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="A torch device, e.g. cuda:0.")] = "cpu",
    dtype: Annotated[
        str, typer.Option(metavar="NAME", help="Number format of the weights: float32, float16 or bfloat16.")
    ] = "float32",
    guidance: Annotated[
        float | None, typer.Option(min=0.0, help="Guidance scale; the model's own unless given.")
    ] = None,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", metavar="TEXT", help="Prompt instead of built-in ones; repeatable.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures at once, for quality.  [default: 25 for embedded models, 1 for others]"),
    ] = None,
    batches: Annotated[
        str, typer.Option(metavar="COUNTS", help="Pictures that are made together, for the batch curve.")
    ] = "1,2,4,8",
    seed: SeedOption = 0,
) -> None:
    """Measure a model: loading, memory, time and quality against steps, batches; writes a curve file and a profile."""
    counts = parse_steps(steps)
    together = parse_batches(batches)
    if quality is not None and quality not in QUALITIES:
        allowed = ", ".join(QUALITIES)
        raise InputError(f"--quality is '{quality}', but must be one of {allowed}.{did_you_mean(quality, QUALITIES)}")
    if guidance is not None and not math.isfinite(guidance):
        raise InputError(f"--guidance is {guidance:g}, but must be a finite number.")
    refuse_same_output(json, plot, {"the curve file": out, "the profile": profile_file})
    require_serve_extra("Profiling", MODULES)
    if device.startswith("cpu"):
        prefer_one_thread()
    quiet_diffusers()

    from edgegen.platform.files import write_json, write_text
    from edgegen.serve.profile.curve_report import make_report
    from edgegen.serve.profile.measured_profile import model_profile
    from edgegen.serve.profile.measurements import ProfileRequest
    from edgegen.serve.profile.model_profile import write_profile
    from edgegen.serve.profile.profiler import run_profile

    request = ProfileRequest(
        model=model,
        steps=counts,
        pictures=pictures,
        repeats=repeats,
        device=device,
        dtype=dtype,
        seed=seed,
        guidance=guidance,
        prompts=tuple(prompts or ()),
        batch=batch,
        judged=True if quality == "inaccuracy" else None,
        batches=together,
    )
    given: dict[str, Any] = {
        "--model": model,
        "--steps": steps,
        "--pictures": pictures,
        "--repeats": repeats,
        "--quality": quality,
        "--device": device if device != "cpu" else None,
        "--dtype": dtype if dtype != "float32" else None,
        "--guidance": guidance,
        "--batch": batch,
        "--batches": batches if batches != "1,2,4,8" else None,
        "--seed": seed,
    }
    options = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    options += [part for text in prompts or [] for part in ("--prompt", text)]
    notes = progress_console()
    with activity(notes, refresh_per_second=1) as say:  # drawing it takes processor time, which is being measured
        measured = run_profile(request, on_progress=say)
    provenance = _provenance(shlex.join(["edgegen", "profile", *options]))
    report, summary = make_report(measured, provenance, quality), model_profile(measured, provenance)

    def show() -> None:
        shown = console()
        shown.print(profile_table(report))
        for sentence in (*profile_summary(report), *summary_lines(summary), *report.notes()):
            shown.print(sentence, soft_wrap=True)

    writes: list[Callable[[], object]] = []
    if json is not None:
        writes.append(lambda: write_json(json, report.to_json()))
    if out is not None:
        writes.append(lambda: write_text(out, report.curve_file()))
    if profile_file is not None:
        writes.append(lambda: write_profile(summary, profile_file))
    if plot is not None:
        writes.append(lambda: draw_and_say(lambda: _draw(report, plot), notes))
    write_then_show(writes, show)
    if out is not None:
        notes.print(f"Curve file: {out}; a provisioning scenario names it with `curves: {out}`.", soft_wrap=True)


def curve_file(path: str | Path | None) -> Path | None:
    """Check where the curve file is to be written, before anything takes time."""
    path = output_file(path)
    if path is not None and path.suffix not in (".yaml", ".yml"):
        raise InputError(f"Curve file '{path}' must end in .yaml, so that a scenario can name it.")
    return path


def profile_json(path: str | Path | None) -> Path | None:
    """Check where the profile is to be written, before anything takes time."""
    path = output_file(path)
    if path is not None and path.suffix != ".json":
        raise InputError(f"Profile file '{path}' must end in .json.")
    return path


def parse_batches(text: str) -> tuple[int, ...]:
    """Return the numbers of pictures that a list separated by commas stands for, increasing.

    Raises:
        InputError: If it is none, or a number is not from 1 to 256.
    """
    parts = text.replace(" ", "").split(",")
    if not all(_COUNT.fullmatch(part) and 1 <= int(part) <= MOST_TOGETHER for part in parts):
        raise InputError(f"--batches is '{text}', but must be numbers from 1 to {MOST_TOGETHER}, such as 1,2,4,8.")
    return tuple(sorted({int(part) for part in parts}))


def _draw(report: Report, plot: Path) -> list[Path]:
    from edgegen.platform.figures.plots import plot_profile

    return plot_profile(report, plot)


def parse_steps(text: str) -> tuple[int, ...]:
    """Return the step counts that ``first:last``, ``first:last:stride`` or a list separated by commas stands for.

    A range without a stride gives at most ``SELECTED`` counts, evenly spaced on a logarithmic scale, because
    quality changes most where steps are few and many steps take long; the last one is always among them.

    Returns:
        Increasing, without repeats, at least two.

    Raises:
        InputError: If the text is neither, the range is empty, there is but one count, or one is not from 1 to 1000.
    """
    compact = text.replace(" ", "")
    found = _RANGE.fullmatch(compact)
    if found:
        first, last, stride = int(found[1]), int(found[2]), int(found[3]) if found[3] else None
        if first > last:
            raise InputError(f"--steps is '{text}', but the first step count must not exceed the last.")
        if stride == 0:
            raise InputError(f"--steps is '{text}', but the stride must be 1 or more.")
        _check_counts(text, first, last)
        counts = set(range(first, last + 1, stride)) if stride else _selection(first, last)
        counts.add(last)
    else:
        parts = compact.split(",")
        if not all(_COUNT.fullmatch(part) for part in parts):
            raise InputError(f"--steps is '{text}', but must look like 1:50, 1:50:5 or 1,2,4,8.")
        counts = {int(part) for part in parts}
        _check_counts(text, min(counts), max(counts))
    if len(counts) < 2:
        raise InputError(f"--steps is '{text}', but a curve needs two or more different step counts.")
    return tuple(sorted(counts))


def profile_table(report: Report) -> PlainTable:
    """Lay the measured points of a report out for a terminal of 80 columns."""
    import statistics

    from edgegen.serve.profile.curve_report import interval_text

    measured, clock = report.profile, report.profile.clock
    table = PlainTable(
        title=f"{measured.request.model}: {measured.request.pictures} pictures and {measured.request.repeats} timed "
        f"ones per step count, seed {measured.request.seed}",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    others = [name for name in report.qualities if name != report.measure]
    wall = ["wall s"] if clock == "cpu" else []
    for column in ("steps", "least s", "median s", *wall, report.measure, "95 %", *others):
        table.add_column(column, justify="right", no_wrap=True)
    for point in measured.points:
        times = [point.time_s(clock), point.time_s(clock, statistics.median)]
        times += [statistics.median(point.wall_s)] if wall else []
        table.add_row(
            str(point.steps),
            *(f"{value:.4f}" for value in times),
            f"{point.quality[report.measure].mean:.2f}",
            interval_text(point.quality[report.measure], 1),
            *(f"{point.quality[name].mean:.2f}" for name in others),
        )
    return table


def profile_summary(report: Report) -> list[str]:
    """Return what the columns of the table mean, the fits with their residuals, and the costs of holding the model."""
    fit, line, holding, clock = report.quality, report.time, report.profile.holding, report.profile.clock
    units = {
        "tv": "tv: grey levels per pixel",
        "inaccuracy": "inaccuracy: % of pictures",
        "distance": "distance: % of the range",
    }
    clocks = "processor time; wall s: median wall time" if clock == "cpu" else "wall time"
    gpu = "" if holding.gpu_peak_gb is None else f", GPU peak {holding.gpu_peak_gb:.3f} GB"
    level = (
        f"{fit.a2:.4g} throughout"
        if fit.a2 == fit.a4
        else f"{fit.a2:.4g} up to {fit.a1_steps:.3g} steps, {fit.a4:.4g} from {fit.a3_steps:.3g}"
    )
    return [
        f"s: of a picture made alone, {clocks}; {'; '.join(units[name] for name in report.qualities)}",
        "",
        f"Quality: {report.measure} {level} (residual {fit.rms:.3g}, R² {fit.r_squared:.4f})",
        f"Time: {line.b1_s_per_step:.4g} s per step and {line.b2_s:.4g} s (residual {line.rms_s:.3g} s, "
        f"R² {line.r_squared:.4f})",
        f"Load: {holding.load_s:.3g} s; weights {holding.weights_gb:.4f} GB, growth of the process "
        f"{holding.process_growth_gb:.3f} GB{gpu}",
    ]


def summary_lines(summary: ModelProfile) -> list[str]:
    """Return what the profile of a model says beyond the curves: loading, memory while painting, and batches."""
    where = "the pipeline kept on the host" if summary.host == "pipeline" else "files in the cache"
    painting = "" if summary.peak_gb is None else f"; {summary.peak_gb:.3f} GB more while painting"
    curve = ", ".join(f"{point.pictures} in {point.time_s:.4g} s" for point in summary.batch)
    return [
        f"Load from the disk: {summary.load_s:.3g} s{_ends(summary.intervals.load_s)}; with {where}: "
        f"{summary.load_from_host_s:.3g} s{_ends(summary.intervals.load_from_host_s)}{painting}",
        f"Batches of {summary.batch_steps} steps: {curve}; a further picture takes {summary.further_picture:.3g} of "
        f"the first one's steps{_ends(summary.intervals.further_picture)}",
        f"Medians: {summary.step_s:.4g} s per step{_ends(summary.intervals.step_s)} and {summary.fixed_s:.4g} s"
        f"{_ends(summary.intervals.fixed_s)}; useful from {summary.least_steps} steps, best from {summary.full_steps}",
    ]


def _ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:.3g}, {interval[1]:.3g}]"


def _selection(first: int, last: int) -> set[int]:
    """Up to ``SELECTED`` whole numbers from first to last whose ratios are as even as whole numbers allow."""
    chosen = {first}
    left, position = SELECTED - 1, first
    while left > 0 and position < last:
        # The ratio is renewed after every count, because small counts can not be closer than one.
        position = min(last, max(position + 1, round(position * (last / position) ** (1 / left))))
        chosen.add(position)
        left -= 1
    return chosen


def _check_counts(text: str, lowest: int, highest: int) -> None:
    if lowest < 1 or highest > MOST_STEPS:
        raise InputError(f"--steps is '{text}', but step counts must be from 1 to {MOST_STEPS}.")


def _provenance(command: str) -> Any:
    import importlib.metadata
    import platform
    import time

    from edgegen.platform.bench.suite import machine_info
    from edgegen.serve.profile.curve_report import Provenance

    machine = machine_info()
    libraries = ("edgegen", "torch", "diffusers", "transformers")
    return Provenance(
        command=command,
        machine=f"{machine['processor']}, {machine['cores']} cores{' of a virtual machine' if _is_virtual() else ''}, "
        f"{platform.system()} on {platform.machine()}",
        versions={"Python": machine["python"], **{name: importlib.metadata.version(name) for name in libraries}},
        date=time.strftime("%Y-%m-%d", time.gmtime()),
    )


def _is_virtual() -> bool:
    """Tell whether the processor says that it runs under a hypervisor; only Linux on x86 tells."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "hypervisor" in cpuinfo.read_text(encoding="utf-8", errors="replace").split()
