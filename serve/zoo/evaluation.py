"""Prompt accuracy and speed of a shapes model against its step count.

    python -m edgegen.serve.zoo.evaluation --model shapes-64 --steps 1,2,4,8,20 --prompts 200 --seed 0 --json FILE

Prompts are held-out combinations, half with one thing and a place, half with two things and a relation. The judge
decides; a picture is right if the number of things, every colour, every shape and the place or relation are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from edgegen.serve.zoo.judge import Verdict, judge
from edgegen.serve.zoo.loading import UnknownModelError, load_pipeline, model_info
from edgegen.serve.zoo.shapes import Scene, caption, sample_scenes

BATCH = 25
TIMED_PICTURES = 5


@dataclass(frozen=True)
class Row:
    """The figures of one step count.

    Attributes:
        steps: Denoising steps.
        prompts: How many pictures were judged.
        right: How many had number, colour, shape and place (or relation) right.
        accuracy: `right / prompts`.
        low: Lower end of the 95 % Wilson interval of `accuracy`.
        high: Upper end of that interval.
        single_accuracy: The same share among prompts with one thing.
        pair_accuracy: The same share among prompts with two things.
        colour: Share with every colour right.
        shape: Share with every shape right.
        place: Share with the place or relation right.
        size: Share with every size right.
        seconds: Median wall-clock seconds of one picture, made alone.
    """

    steps: int
    prompts: int
    right: int
    accuracy: float
    low: float
    high: float
    single_accuracy: float
    pair_accuracy: float
    colour: float
    shape: float
    place: float
    size: float
    seconds: float


def held_out_scenes(count: int, seed: int) -> list[Scene]:
    """Draw fully stated held-out scenes: the first half (rounded up) with one thing, the rest with two."""
    rng = np.random.default_rng([seed, 4])
    singles = sample_scenes(rng, count - count // 2, held_out=True, pairs=0.0)
    return singles + sample_scenes(rng, count // 2, held_out=True, pairs=1.0)


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


def measure(pipeline: Any, scenes: Sequence[Scene], *, steps: int, guidance: float, seed: int) -> Row:
    """Paint the captions of `scenes`, judge them and time one."""
    texts = [caption(scene) for scene in scenes]
    pictures = paint(pipeline, texts, steps=steps, guidance=guidance, seed=seed)
    verdicts = [judge(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)]
    right = sum(verdict.right for verdict in verdicts)
    interval = binomtest(right, len(verdicts)).proportion_ci(method="wilson")
    by_kind: dict[bool, list[Verdict]] = {True: [], False: []}
    for verdict, scene in zip(verdicts, scenes, strict=True):
        by_kind[scene.second is None].append(verdict)
    return Row(
        steps=steps,
        prompts=len(verdicts),
        right=right,
        accuracy=right / len(verdicts),
        low=float(interval.low),
        high=float(interval.high),
        single_accuracy=_share([verdict.right for verdict in by_kind[True]]),
        pair_accuracy=_share([verdict.right for verdict in by_kind[False]]),
        colour=_share([verdict.colour for verdict in verdicts]),
        shape=_share([verdict.shape for verdict in verdicts]),
        place=_share([verdict.place for verdict in verdicts]),
        size=_share([verdict.size for verdict in verdicts]),
        seconds=time_one(pipeline, texts[0], steps=steps, guidance=guidance),
    )


def _share(flags: list[bool]) -> float:
    """Return the share of true flags, 0 if there are none."""
    return sum(flags) / len(flags) if flags else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m edgegen.serve.zoo.evaluation", description="Judge a shapes model.")
    parser.add_argument("--model", default="shapes-64", help="embedded name or folder of a shapes model")
    parser.add_argument("--steps", default="1,2,4,8,20", help="step counts, separated by commas")
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts per step count")
    parser.add_argument("--guidance", type=float, help="guidance scale (default: the model's own)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    try:
        pipeline = load_pipeline(chosen.model)
    except UnknownModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    guidance = chosen.guidance if chosen.guidance is not None else model_info(chosen.model).default_guidance
    scenes = held_out_scenes(chosen.prompts, chosen.seed)
    sys.stdout.write("steps  right [95 % interval]      one thing  two things  colour  shape  place  size  s/picture\n")
    rows = []
    for steps in (int(part) for part in chosen.steps.split(",")):
        row = measure(pipeline, scenes, steps=steps, guidance=guidance, seed=chosen.seed)
        rows.append(row)
        sys.stdout.write(
            f"{row.steps:5d}  {row.accuracy:6.1%} [{row.low:6.1%}, {row.high:6.1%}]  {row.single_accuracy:9.1%}"
            f"  {row.pair_accuracy:10.1%}  {row.colour:6.1%}  {row.shape:5.1%}  {row.place:5.1%}  {row.size:5.1%}"
            f"  {row.seconds:8.3f}\n"
        )
        sys.stdout.flush()
    if chosen.json is not None:
        report = {
            "model": chosen.model,
            "guidance": guidance,
            "seed": chosen.seed,
            "threads": chosen.threads,
            "prompts": "held-out combinations, half with one thing, half with two",
            "rows": [asdict(row) for row in rows],
        }
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
