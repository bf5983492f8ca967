# SPDX-License-Identifier: Apache-2.0
"""What embedded models paint: for every subject its captions, its pictures and its judge, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.serve.zoo import digit_judge, digits, judge, shapes


@dataclass(frozen=True)
class Subject:
    """A kind of pictures with captions of a fixed grammar; facts are what a caption states.

    Attributes:
        name: Its name.
        words: Every word of the captions.
        example: A caption.
        sample: Draws facts: `(rng, count, pairs=…, open_facts=…)`, of the training split.
        held_out: Draws fully stated facts of the held-out split: `(count, seed)`.
        caption: The caption that states facts.
        parse: The facts that a caption states; raises `shapes.CaptionError` for other texts.
        draw: Paints facts: `(facts, rng)` to RGB pictures `[n, 64, 64, 3]`.
        judge: Compares a picture with facts; its answer is a dataclass of truth values with a property `right`.
        group: The group of prompts that facts belong to, for reports.
    """

    name: str
    words: tuple[str, ...]
    example: str
    sample: Callable[..., list[Any]]
    held_out: Callable[[int, int], list[Any]]
    caption: Callable[[Any], str]
    parse: Callable[[str], Any]
    draw: Callable[..., Any]
    judge: Callable[[Any, Any], Any]
    group: Callable[[Any], str]


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject(
            name="shapes",
            words=shapes.WORDS,
            example="a large red circle in the top left",
            sample=shapes.sample_scenes,
            held_out=shapes.held_out_scenes,
            caption=shapes.caption,
            parse=shapes.parse_caption,
            draw=shapes.draw,
            judge=judge.judge,
            group=lambda scene: "one thing" if scene.second is None else "two things",
        ),
        Subject(
            name="digits",
            words=digits.WORDS,
            example="a red 7 in the top left",
            # A picture has one numeral, so there are no pairs.
            sample=lambda rng, count, *, pairs=0.0, **given: digits.sample_numerals(rng, count, **given),
            held_out=digits.held_out_numerals,
            caption=digits.caption,
            parse=digits.parse_caption,
            draw=digits.draw,
            judge=digit_judge.judge_digit,
            group=lambda numeral: f"digit {numeral.digit}",
        ),
    )
}


def subject_of(name: str) -> Subject:
    """Return a subject by its name.

    Raises:
        InputError: If there is none.
    """
    if name not in SUBJECTS:
        raise InputError(f"Subject '{name}' is unknown; use {' or '.join(SUBJECTS)}.{did_you_mean(name, SUBJECTS)}")
    return SUBJECTS[name]
