# SPDX-License-Identifier: Apache-2.0
"""Distillation: a small denoiser learns from a larger model, and needs few steps and no guidance.

    python -m edgegen.serve.zoo.distillation --teacher shapes-64 --out shapes-64-fast --seed 0

Two stages, each kept in the work folder. The teacher paints captions of the training split with its guidance, and every
point on its way from noise to the finished latents is recorded. Then the student learns to tell, from any of these
points, where the way ends: its one answer stands for two of the teacher (with and without the caption), and a long step
towards the end goes less astray than one along the teacher's slope. That is direct regression on the teacher's
deterministic paths, a simple relative of progressive and consistency distillation (Salimans and Ho, arXiv 2202.00512;
Song et al., arXiv 2303.01469) and of guidance distillation (Meng et al., arXiv 2210.03142).

Autoencoder, tokenizer and text encoder are the teacher's.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgegen.envs.core.errors import InputError
from edgegen.serve.zoo import networks
from edgegen.serve.zoo.autoencoder import tokenize
from edgegen.serve.zoo.averaging import fit_averaged
from edgegen.serve.zoo.loading import load_pipeline, model_info
from edgegen.serve.zoo.recipe import keep
from edgegen.serve.zoo.subjects import Subject, subject_of
from edgegen.serve.zoo.training import TrainingError, check_target, write_pipeline
from edgegen.serve.zoo.weights import UnknownModelError

PATH_STEPS = (6, 8)
"""Steps of the recorded ways, in turn; together they pass all levels that 1, 2, 3, 4, 6 and 8 steps begin at."""
MOST_WEIGHT = 4.0  # of a miss where there is little noise; it would grow beyond all bounds
AT_ONCE = 64  # ways that are recorded together


@dataclass(frozen=True)
class Distillation:
    """Every number that shapes a distillation.

    Attributes:
        seed: Source of every random choice.
        threads: CPU threads.
        ways: Ways of the teacher that are recorded.
        pairs: Share of captions with two things.
        open_facts: Chance that a caption leaves a size or the place of a lone thing open.
        width: Channels of the student's denoiser on 8×8 latents.
        inner_width: Channels on 4×4 latents.
        steps: Training steps of the student.
        batch: Points in such a step.
        rate: Highest learning rate.
        first_share: Share of a batch at the beginning of the way, where most has to be decided.
        own_share: Share of a batch at points that the student's own first step leads to.
        average_decay: Decay of the running average of the weights.
        default_steps: Denoising steps that the finished model proposes.
    """

    seed: int = 0
    threads: int = 1
    ways: int = 4_096
    pairs: float = 0.5
    open_facts: float = 0.1
    width: int = 32
    inner_width: int = 64
    steps: int = 2_500
    batch: int = 32
    rate: float = 1.5e-3
    first_share: float = 0.35
    own_share: float = 0.3
    average_decay: float = 0.999
    default_steps: int = 1


@dataclass(frozen=True)
class Ways:
    """Recorded ways from noise to finished latents.

    Attributes:
        points: Points on them, `[p, channels, 8, 8]`.
        levels: Noise level of each, a time step of training, `[p]`.
        way: Number of its way, `[p]`.
        ends: Finished latents, `[ways, channels, 8, 8]`.
        firsts: Number of the first point of each way, `[ways]`.
        tokens: Captions, `[ways, MAX_TOKENS]`.
    """

    points: torch.Tensor
    levels: torch.Tensor
    way: torch.Tensor
    ends: torch.Tensor
    firsts: torch.Tensor
    tokens: torch.Tensor


class Levels:
    """Signal and noise at every level of training: a point is `signal · picture + noise · normal noise`."""

    def __init__(self) -> None:
        share = networks.build_noise_schedule().alphas_cumprod
        self._signal, self._noise = share.sqrt(), (1 - share).sqrt()

    def of(self, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return signal and noise, `[n, 1, 1, 1]`."""
        return self._signal[levels][:, None, None, None], self._noise[levels][:, None, None, None]

    def end(self, points: torch.Tensor, levels: torch.Tensor, velocity: torch.Tensor) -> torch.Tensor:
        """Return the finished latents that a velocity points to."""
        signal, noise = self.of(levels)
        return signal * points - noise * velocity

    def step(self, points: torch.Tensor, levels: torch.Tensor, ends: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
        """Return the points at levels `to` on the straight ways to `ends`: one Euler step of the finished sampler."""
        signal, noise = self.of(levels)
        later_signal, later_noise = self.of(to)
        return later_signal * ends + later_noise * (points - signal * ends) / noise


def levels_of(steps: int) -> list[int]:
    """Return the levels that a sampler with trailing spacing begins its steps at, from the noisiest."""
    return [round(networks.TIMESTEPS - index * networks.TIMESTEPS / steps) - 1 for index in range(steps)]


def record_ways(
    recipe: Distillation, subject: Subject, teacher: Any, guidance: float, work: Path, say: Callable[[str], None]
) -> Ways:
    """Let the teacher paint, and record every point (or load what was recorded)."""
    path = work / "ways.pt"
    if not path.exists():
        clock, levels, count = time.process_time(), Levels(), 0
        found: dict[str, list[torch.Tensor]] = {field.name: [] for field in fields(Ways)}
        for part, start in enumerate(range(0, recipe.ways, AT_ONCE)):
            size = min(AT_ONCE, recipe.ways - start)
            rng = np.random.default_rng([recipe.seed, 6, part])
            noise_source = torch.Generator().manual_seed(int(rng.integers(2**62)))
            facts = subject.sample(rng, size, pairs=recipe.pairs, open_facts=recipe.open_facts)
            tokens = tokenize(teacher.tokenizer, [subject.caption(fact) for fact in facts])
            points = torch.randn(size, networks.LATENT_CHANNELS, *[networks.LATENT_SIDE] * 2, generator=noise_source)
            visited = levels_of(PATH_STEPS[part % len(PATH_STEPS)])
            number = torch.arange(start, start + size)
            found["firsts"].append(count + torch.arange(size))
            for index, level in enumerate(visited):
                at = torch.full((size,), level)
                found["points"].append(points)
                found["levels"].append(at)
                found["way"].append(number)
                count += size
                ends = levels.end(points, at, _guided(teacher, points, at, tokens, guidance))
                if index + 1 < len(visited):
                    points = levels.step(points, at, ends, torch.full((size,), visited[index + 1]))
            found["ends"].append(ends)
            found["tokens"].append(tokens)
            if part % 10 == 0:
                say(f"ways {start}/{recipe.ways}")
        seconds = time.process_time() - clock
        keep({**{name: torch.cat(parts) for name, parts in found.items()}, "seconds": seconds}, path)
    state = torch.load(path)
    return Ways(**{field.name: state[field.name] for field in fields(Ways)})


@torch.no_grad()
def _guided(
    teacher: Any, points: torch.Tensor, levels: torch.Tensor, tokens: torch.Tensor, guidance: float
) -> torch.Tensor:
    """The velocity that classifier-free guidance makes of the teacher's answers with and without the caption."""
    empty = tokenize(teacher.tokenizer, [""]).expand_as(tokens)
    words = teacher.text_encoder(torch.cat([empty, tokens])).last_hidden_state
    both = teacher.unet(torch.cat([points, points]), torch.cat([levels, levels]), words).sample
    without, with_caption = both.chunk(2)
    velocity: torch.Tensor = without + guidance * (with_caption - without)
    return velocity


def distil(recipe: Distillation, ways: Ways, teacher: Any, work: Path, say: Callable[[str], None]) -> Any:
    """Train (or finish, or load) the student's denoiser; return it with averaged weights."""
    torch.manual_seed(recipe.seed + 2)
    student = networks.build_denoiser((recipe.width, recipe.inner_width), middle=False).train()
    levels = Levels()

    @cache
    def words() -> torch.Tensor:  # the text encoder stays as it is, so it has to read every caption but once
        with torch.no_grad():
            read = [teacher.text_encoder(part).last_hidden_state for part in torch.split(ways.tokens, 256)]
            return torch.cat(read)

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng([recipe.seed, 7, step])
        points, at, way = _batch(recipe, ways, words(), student, levels, rng)
        miss = levels.end(points, at, student(points, at, words()[way]).sample) - ways.ends[way]
        _, noise = levels.of(at)
        loss: torch.Tensor = (miss.square() * (1 / noise.square()).clamp(max=MOST_WEIGHT)).mean()
        return loss

    fit_averaged(
        student,
        loss_of,
        steps=recipe.steps,
        rate=recipe.rate,
        decay=recipe.average_decay,
        path=work / "student.pt",
        report=lambda step, recent: say(f"student {step}/{recipe.steps}: loss {recent:.4f}"),
    )
    return student


def _batch(
    recipe: Distillation, ways: Ways, words: torch.Tensor, student: Any, levels: Levels, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points, their levels and the numbers of their ways: from beginnings, from anywhere, and the student's own."""
    first, own = round(recipe.batch * recipe.first_share), round(recipe.batch * recipe.own_share)
    chosen = torch.from_numpy(rng.integers(len(ways.points), size=recipe.batch))
    chosen[:first] = ways.firsts[torch.from_numpy(rng.integers(len(ways.firsts), size=first))]
    points, at, way = ways.points[chosen], ways.levels[chosen], ways.way[chosen]
    if own:
        # The student's first step leads a little beside the teacher's way; it has to find back from there.
        begin = ways.firsts[way[-own:]]
        with torch.no_grad():
            velocity = student(ways.points[begin], ways.levels[begin], words[way[-own:]]).sample
            ends = levels.end(ways.points[begin], ways.levels[begin], velocity)
            counts = rng.integers(2, PATH_STEPS[-1] + 1, size=own)
            to = torch.tensor([levels_of(int(steps))[1] for steps in counts])
            points[-own:] = levels.step(ways.points[begin], ways.levels[begin], ends, to)
        at[-own:] = to
    return points, at, way


def run(
    recipe: Distillation, teacher: str, out: Path, work: Path | None = None, say: Callable[[str], None] | None = None
) -> Path:
    """Distil a model and write the student as a diffusers folder.

    Args:
        recipe: The numbers of the run.
        teacher: Embedded name or folder of the model to learn from.
        out: Target folder; an older pipeline there is replaced at the end.
        work: Folder of the checkpoints, `OUT.work` if not given. Finished steps found there are not repeated.
        say: Called with progress lines.

    Raises:
        TrainingError: The target cannot be written.
        UnknownModelError: There is no such teacher.
        InputError: Its card says no subject.
    """
    from diffusers import StableDiffusionPipeline

    check_target(out)
    say = say or (lambda _: None)
    work = work or out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe.threads)
    master, known = load_pipeline(teacher), model_info(teacher)
    ways = record_ways(recipe, subject_of(known.subject or ""), master, known.default_guidance, work, say)
    student = distil(recipe, ways, master, work, say)
    pipeline = StableDiffusionPipeline(
        vae=master.vae,
        text_encoder=master.text_encoder,
        tokenizer=master.tokenizer,
        unet=student,
        scheduler=networks.build_scheduler(spacing="trailing"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    info = {
        "name": out.name,
        "subject": known.subject,
        "native_size": known.native_size,
        "default_steps": recipe.default_steps,
        "default_guidance": 1.0,
        "example_prompt": known.example_prompt,
        "teacher": teacher,
        "training_cpu_seconds": round(sum(torch.load(path)["seconds"] for path in sorted(work.glob("*.pt")))),
        "recipe": asdict(recipe),
    }
    write_pipeline(pipeline, info, out)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m edgegen.serve.zoo.distillation", description="Distil a model.")
    parser.add_argument("--teacher", default="shapes-64", help="embedded name or folder of the model to learn from")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the pipeline to")
    parser.add_argument("--work", type=Path, help="folder for checkpoints (default: OUT.work)")
    for field in fields(Distillation):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=type(field.default), default=field.default, help=f"default {field.default}")
    chosen = vars(parser.parse_args(arguments))
    out, work, teacher = chosen.pop("out"), chosen.pop("work"), chosen.pop("teacher")
    begun = time.monotonic()

    def say(line: str) -> None:
        sys.stdout.write(f"{time.monotonic() - begun:8.1f} s  {line}\n")
        sys.stdout.flush()

    try:
        run(Distillation(**chosen), teacher, out, work, say)
    except (TrainingError, UnknownModelError, InputError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    say(f"wrote {os.fspath(out)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
