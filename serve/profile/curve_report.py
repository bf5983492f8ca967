# SPDX-License-Identifier: Apache-2.0
"""From a profile to a curve file: the fits, what must be said about them, and the text with every measured point."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from typing import Any

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.yaml_files import dump_yaml
from edgegen.envs.provisioning.curves import Curve, CurveSet
from edgegen.serve.profile.curve_fits import QualityFit, TimeFit, fit_quality, fit_time, largest_rise
from edgegen.serve.profile.measurements import Profile, StepPoint
from edgegen.serve.profile.picture_quality import LEVELS, MEASURES, Estimate

# Our choice of when a person should be told.
GOOD_FIT = 0.9  # share of the variance that a quality curve should explain
GOOD_LINE = 0.98  # the same for the line of time
FEWEST_COUNTS = 6  # two more than a quality curve has constants
LARGE_RISE = 0.1  # getting worse by more than this share of the measured range is no noise
LARGE_BUSYNESS = 1.1  # wall over processor time
_DIGITS = 5


@dataclass(frozen=True)
class Provenance:
    """Where measurements come from, in words for the curve file.

    Attributes:
        command: Command line that repeats them.
        machine: Processor and system.
        versions: Version by library.
        date: Day of the measurement, ISO 8601.
    """

    command: str
    machine: str
    versions: dict[str, str]
    date: str

    def text(self, profile: Profile) -> str:
        """Return one sentence or two."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
        return (
            f"Measured on {self.date} with `{self.command}` on {profile.request.device}, {threads}, "
            f"{profile.request.dtype}; machine: {self.machine}; versions: {versions}."
        )


@dataclass(frozen=True)
class Report:
    """A profile with its fits.

    Attributes:
        profile: What was measured.
        provenance: Where and how.
        measure: The measure of quality that the curve file holds, a key of
            :data:`edgegen.serve.profile.picture_quality.MEASURES`.
        qualities: Fit by measure.
        time: Line through the least times of the profile's clock.
        median_time: Line through the median times.
    """

    profile: Profile
    provenance: Provenance
    measure: str
    qualities: dict[str, QualityFit]
    time: TimeFit
    median_time: TimeFit

    @property
    def quality(self) -> QualityFit:
        """The fit that the curve file holds."""
        return self.qualities[self.measure]

    def curve_set(self) -> CurveSet:
        """Return what the curve file holds; warnings are part of its description."""
        profile, fit, line = self.profile, self.quality, self.time
        curve = Curve(
            a1_steps=_rounded(fit.a1_steps),
            a2_tv=_rounded(fit.a2),
            a3_steps=_rounded(fit.a3_steps),
            a4_tv=_rounded(fit.a4, fit.a2),
            b1_s_per_step=_rounded(line.b1_s_per_step),
            b2_s=_rounded(line.b2_s),
            model=profile.request.model,
            tv_residual=_rounded(fit.rms, fit.a2),
            time_residual_s=_rounded(line.rms_s),
            load_s=_rounded(profile.holding.load_s),
            size_gb=_rounded(profile.holding.weights_gb),
        )
        return CurveSet(
            description=" ".join([f"Measured curve of {profile.request.model}.", *self.notes()]),
            source=self.provenance.text(profile),
            quality=MEASURES[self.measure],
            curves=(curve,),
        )

    def curve_file(self) -> str:
        """Return the text of the curve file, which ``load_curves`` reads; points are comments."""
        data = self.curve_set().model_dump(mode="json", exclude_none=True)
        body = dump_yaml(data)
        return "".join(f"# {line}".rstrip() + "\n" for line in self._comments()) + body

    def notes(self) -> list[str]:
        """Return a sentence for everything that limits the use of the curve."""
        fit, line, points = self.quality, self.time, self.profile.points
        values = [point.quality[self.measure].mean for point in points]
        steps = [point.steps for point in points]
        notes = []
        span = max(values) - min(values)
        rise, begin, end = largest_rise(steps, values)
        if rise > LARGE_RISE * span:
            notes.append(
                f"Not monotone: {self.measure} rises by {rise:.3g} between {begin:g} and {end:g} steps, of a range of "
                f"{span:.3g} in all; the curve can only fall."
            )
        if len(points) < FEWEST_COUNTS:
            notes.append(
                f"Few counts: a quality curve has four constants and a line of time two, so with {len(points)} step "
                "counts their residuals say little."
            )
        if fit.a2 == fit.a4:
            notes.append(
                f"Flat: {self.measure} does not fall with the steps, so this curve gives no reason to spend any."
            )
        elif fit.r_squared < GOOD_FIT:
            notes.append(
                f"Poor fit: the curve explains {max(0, fit.r_squared):.0%} of the differences of {self.measure} "
                "between step counts."
            )
        if fit.a2 > fit.a4 and fit.a3_steps > 0.99 * steps[-1]:  # a refined knot stops short of its bound
            notes.append(f"Not saturated: {self.measure} still falls at {steps[-1]} steps, the most measured.")
        if line.r_squared < GOOD_LINE:
            notes.append(f"Poor line: it explains {max(0, line.r_squared):.1%} of the differences in time.")
        if self.profile.clock == "cpu" and self.profile.busyness > LARGE_BUSYNESS:
            notes.append(
                f"The machine was busy: pictures took {self.profile.busyness:.2f} times their processor time; the line "
                "rests on processor time."
            )
        return notes

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        profile = self.profile
        height, width, channels = profile.picture_shape
        to_total = height * width * channels / LEVELS
        rows = []
        for point in profile.points:
            row = asdict(point)
            row["tv_per_pixel"] = point.quality["tv"].mean / LEVELS
            row["tv_total"] = point.quality["tv"].mean * to_total
            rows.append(row)
        return {
            "format": "edgegen-profile-1",
            "request": asdict(profile.request),
            "provenance": asdict(self.provenance),
            "guidance": profile.guidance,
            "picture_shape": profile.picture_shape,
            "threads": profile.threads,
            "clock": profile.clock,
            "busyness": profile.busyness,
            "holding": asdict(profile.holding),
            "points": rows,
            "batch_steps": profile.batch_steps,
            "batches": [asdict(batch) for batch in profile.batches],
            "measure": self.measure,
            "units": {name: MEASURES[name] for name in self.qualities},
            "quality_fits": {name: asdict(fit) for name, fit in self.qualities.items()},
            "time_fit": asdict(self.time),
            "median_time_fit": asdict(self.median_time),
            "notes": self.notes(),
            "curves": self.curve_set().model_dump(mode="json", exclude_none=True),
        }

    def _comments(self) -> list[str]:
        profile, fit, line = self.profile, self.quality, self.time
        request, holding = profile.request, profile.holding
        clock = {"cpu": "processor", "wall": "wall"}[profile.clock]
        gpu = "" if holding.gpu_peak_gb is None else f", GPU peak {holding.gpu_peak_gb:.3f} GB"
        lines = [
            f"Quality: {MEASURES[self.measure]};",
            f"{request.pictures} pictures per step count, seed {request.seed}, guidance scale {profile.guidance:g}. "
            f"Residual {fit.rms:.4g}, R² {fit.r_squared:.4f}.",
            f"Time: line through the least {clock} time of {request.repeats} pictures made alone. "
            f"Residual {line.rms_s:.4g} s, R² {line.r_squared:.5f};",
            f"through the medians it is {self.median_time.b1_s_per_step:.4g} s per step and "
            f"{self.median_time.b2_s:.4g} s. Wall over processor time: {profile.busyness:.3f}.",
            f"Memory: weights {holding.weights_gb:.4f} GB, growth of the process {holding.process_growth_gb:.3f} GB"
            f"{gpu}. Load: {holding.load_s:.3g} s, the first one {holding.first_load_s:.3g} s.",
            "",
        ]
        names = list(self.qualities)
        head = ["steps", "least s", "median s", "most s", "wall median s", *names, f"{self.measure} 95 %"]
        table = [head, *(self._row(point, names) for point in profile.points)]
        widths = [max(len(row[column]) for row in table) for column in range(len(head))]
        lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
        return [*lines, ""]

    def _row(self, point: StepPoint, names: list[str]) -> list[str]:
        clock = self.profile.clock
        figures = (point.time_s(clock), point.time_s(clock, statistics.median), point.time_s(clock, max))
        return [
            str(point.steps),
            *(f"{value:.4f}" for value in (*figures, statistics.median(point.wall_s))),
            *(f"{point.quality[name].mean:.3f}" for name in names),
            interval_text(point.quality[self.measure]),
        ]


def make_report(profile: Profile, provenance: Provenance, measure: str | None = None) -> Report:
    """Fit the curves of a profile.

    Args:
        profile: What was measured.
        provenance: Where and how.
        measure: Quality of the curve file; prompt inaccuracy where it was judged and total variation else if None.

    Raises:
        InputError: If prompt inaccuracy is wanted but was not judged.
    """
    points = profile.points
    steps = [point.steps for point in points]
    judged = [name for name in MEASURES if name in points[0].quality]
    measure = measure or ("inaccuracy" if "inaccuracy" in judged else "tv")
    if measure not in judged:
        raise InputError(f"Quality '{measure}' was not measured; use {' or '.join(judged)}.")
    clock = profile.clock
    return Report(
        profile,
        provenance,
        measure,
        {name: fit_quality(steps, [point.quality[name].mean for point in points]) for name in judged},
        fit_time(steps, [point.time_s(clock) for point in points]),
        fit_time(steps, [point.time_s(clock, statistics.median) for point in points]),
    )


def interval_text(estimate: Estimate, decimals: int = 2) -> str:
    """Return the ends of a 95 % interval, or a dash where there is none."""
    if not math.isfinite(estimate.low):
        return "-"
    return f"[{estimate.low:.{decimals}f}, {estimate.high:.{decimals}f}]"


def _rounded(value: float, largest: float | None = None) -> float:
    """Round to what a measurement can carry: to five digits, of ``largest`` if given, so that the file reads well."""
    scale = abs(value if largest is None else largest)
    return round(value, _DIGITS - 1 - math.floor(math.log10(scale))) if scale > 0 else value
