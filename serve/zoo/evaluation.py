# SPDX-License-Identifier: Apache-2.0
"""Prompt accuracy and speed of an embedded model, or one like it, against its step count.

    python -m edgegen.serve.zoo.evaluation --model shapes-64 --steps 1,2,4,8,20 --prompts 200 --seed 0 --json FILE

Prompts are combinations that training never showed, and the judge of the model's subject decides which pictures are
right. With `--sheet FILE` some of the pictures are also put side by side, for the eyes, and with `--card` the accuracy
goes into the model's own `edgegen.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from edgegen.envs.core.errors import InputError
from edgegen.envs.core.paths import replacing
from edgegen.serve.zoo.loading import load_pipeline, model_folder, model_info
from edgegen.serve.zoo.subjects import Subject, subject_of
from edgegen.serve.zoo.weights import INFO_FILE, PINS, UnknownModelError

BATCH = 25
SHOWN = 12
"""Pictures in a row of a sheet."""
TIMED_PICTURES = 5


@dataclass(frozen=True)
class Row:
    """The figures of one step count.

    Attributes:
        steps: Denoising steps.
        prompts: How many pictures were judged.
        right: How many show what was asked for.
        accuracy: `right / prompts`.
        low: Lower end of the 95 % Wilson interval of `accuracy`.
        high: Upper end of that interval.
        groups: The same share among the prompts of every group, such as those with one thing.
        parts: Share with a part of the prompt right, such as the colour, by part.
        seconds: Median wall-clock seconds of one picture, made alone.
    """

    steps: int
    prompts: int
    right: int
    accuracy: float
    low: float
    high: float
    groups: dict[str, float]
    parts: dict[str, float]
    seconds: float


def paint(
    pipeline: Any, prompts: Sequence[str], *, steps: int, guidance: float, seed: int, batch: int = BATCH
) -> NDArray[np.uint8]:
    """Run a pipeline on prompts; picture `i` depends on its prompt and `seed + i` alone.

    Returns:
        RGB pictures, shape `[n, h, w, 3]`.
    """
    made = []
    for start in range(0, len(prompts), batch):
        part = list(prompts[start : start + batch])
        generators = [torch.Generator("cpu").manual_seed(seed + start + i) for i in range(len(part))]
        made.append(
            pipeline(
                part, num_inference_steps=steps, guidance_scale=guidance, generator=generators, output_type="np"
            ).images
        )
    pictures: NDArray[np.uint8] = np.rint(np.concatenate(made) * 255).astype(np.uint8)
    return pictures


def time_one(pipeline: Any, prompt: str, *, steps: int, guidance: float) -> float:
    """Return the median seconds of one picture made alone, after one to warm up."""
    seconds = []
    for seed in range(TIMED_PICTURES + 1):
        begun = time.perf_counter()
        paint(pipeline, [prompt], steps=steps, guidance=guidance, seed=seed)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


def measure(
    pipeline: Any, subject: Subject, facts: Sequence[Any], *, steps: int, guidance: float, seed: int
) -> tuple[Row, NDArray[np.uint8]]:
    """Paint the captions of facts, judge them and time one.

    Returns:
        The figures, and the pictures, `[n, 64, 64, 3]`.
    """
    texts = [subject.caption(fact) for fact in facts]
    pictures = paint(pipeline, texts, steps=steps, guidance=guidance, seed=seed)
    verdicts = [subject.judge(picture, fact) for picture, fact in zip(pictures, facts, strict=True)]
    right = sum(verdict.right for verdict in verdicts)
    interval = binomtest(right, len(verdicts)).proportion_ci(method="wilson")
    groups: dict[str, list[bool]] = {}
    for verdict, fact in zip(verdicts, facts, strict=True):
        groups.setdefault(subject.group(fact), []).append(verdict.right)
    row = Row(
        steps=steps,
        prompts=len(verdicts),
        right=right,
        accuracy=right / len(verdicts),
        low=float(interval.low),
        high=float(interval.high),
        groups={name: sum(flags) / len(flags) for name, flags in sorted(groups.items())},
        parts={
            field.name: sum(getattr(verdict, field.name) for verdict in verdicts) / len(verdicts)
            for field in fields(verdicts[0])
        },
        seconds=time_one(pipeline, texts[0], steps=steps, guidance=guidance),
    )
    return row, pictures


def write_accuracy(model: str, rows: Sequence[Row], *, prompts: int, seed: int, guidance: float) -> None:
    """Write how accurate a model is into its card; files that are loaded, and their digests, stay as they are.

    Args:
        model: An embedded name or a folder with a card.
        rows: The figures by step count.
        prompts: Prompts per step count.
        seed: Root of prompts and noise.
        guidance: Guidance scale.
    """
    folder = model_folder(model)
    assert folder is not None  # it has a card
    card = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
    points = [
        {"steps": row.steps, "right": row.right, "accuracy": row.accuracy, "low": round(row.low, 4),
         "high": round(row.high, 4)} for row in rows
    ]  # fmt: skip
    card["accuracy"] = {"prompts": prompts, "seed": seed, "guidance": guidance, "points": points}
    pins = card.pop(PINS, {})  # last, because they are long
    text = json.dumps({**card, PINS: pins}, indent=2) + "\n"
    with replacing(folder / INFO_FILE) as file:
        file.write(text)


def write_sheet(rows: Sequence[NDArray[np.uint8]], path: Path) -> None:
    """Write pictures side by side: one row per step count, the same prompts below each other.

    Args:
        rows: Pictures by step count, `[n, h, w, 3]` each; the first of each are shown.
        path: A PNG file.
    """
    from PIL import Image

    shown = np.stack([pictures[:: max(1, len(pictures) // SHOWN)][:SHOWN] for pictures in rows])
    count, across, height, width, channels = shown.shape
    sheet = shown.transpose(0, 2, 1, 3, 4).reshape(count * height, across * width, channels)
    Image.fromarray(sheet).save(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m edgegen.serve.zoo.evaluation", description="Judge a model.")
    parser.add_argument("--model", default="shapes-64", help="embedded name or folder of a model")
    parser.add_argument("--steps", default="1,2,4,8,20", help="step counts, separated by commas")
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts per step count")
    parser.add_argument("--guidance", type=float, help="guidance scale (default: the model's own)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--sheet", type=Path, help="also write some of the pictures to this PNG file")
    parser.add_argument("--card", action="store_true", help="also write the accuracy into the model's card")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    try:
        info = model_info(chosen.model)
        pipeline = load_pipeline(chosen.model)
        subject = subject_of(info.subject or "")
    except (UnknownModelError, InputError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    guidance = chosen.guidance if chosen.guidance is not None else info.default_guidance
    facts = subject.held_out(chosen.prompts, chosen.seed)
    rows, sheets = [], []
    for steps in (int(part) for part in chosen.steps.split(",")):
        row, pictures = measure(pipeline, subject, facts, steps=steps, guidance=guidance, seed=chosen.seed)
        rows.append(row)
        sheets.append(pictures)
        shares = {**row.groups, **row.parts}
        if len(rows) == 1:
            names = "".join(f"  {name}" for name in shares)
            sys.stdout.write(f"steps  right [95 % interval]    {names}  s/picture\n")
        cells = "".join(f"  {share:{max(6, len(name))}.1%}" for name, share in shares.items())
        sys.stdout.write(
            f"{row.steps:5d}  {row.accuracy:6.1%} [{row.low:6.1%}, {row.high:6.1%}]{cells}  {row.seconds:9.3f}\n"
        )
        sys.stdout.flush()
    if chosen.json is not None:
        report = {
            "model": chosen.model,
            "guidance": guidance,
            "seed": chosen.seed,
            "threads": chosen.threads,
            "subject": subject.name,
            "prompts": "combinations that training never showed",
            "rows": [asdict(row) for row in rows],
        }
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if chosen.card:
        write_accuracy(chosen.model, rows, prompts=chosen.prompts, seed=chosen.seed, guidance=guidance)
    if chosen.sheet is not None:
        write_sheet(sheets, chosen.sheet)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
