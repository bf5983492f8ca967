# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from edgegen.envs.core.errors import InputError
from edgegen.serve.zoo.digit_judge import judge_digit, read_digit
from edgegen.serve.zoo.digits import (
    DIGITS,
    WINDOW,
    Numeral,
    caption,
    coverage,
    draw,
    every_numeral,
    is_held_out,
    parse_caption,
    sample_numerals,
)
from edgegen.serve.zoo.shapes import BACKGROUND, COLOURS, PLACES, SIDE, CaptionError
from edgegen.serve.zoo.subjects import SUBJECTS, subject_of


def test_captions_and_numerals_turn_into_each_other():
    numerals = sample_numerals(np.random.default_rng(0), 300, open_facts=0.3)
    assert [parse_caption(caption(numeral)) for numeral in numerals] == numerals
    assert caption(Numeral("orange", "7", "top left")) == "an orange 7 in the top left"
    assert parse_caption(" An  orange 7 in the CENTER ") == Numeral("orange", "7", "centre")


@pytest.mark.parametrize("text", ["", "a 7", "a pink 7", "a red 12", "a red x", "a red 7 in the attic"])
def test_a_text_outside_the_grammar_is_refused_with_an_example(text):
    with pytest.raises(CaptionError, match="a red 7 in the top left"):
        parse_caption(text)


def test_the_splits_cover_everything_once_and_training_never_sees_what_is_held_out():
    training, held_out = set(every_numeral(held_out=False)), set(every_numeral(held_out=True))
    assert not training & held_out
    assert len(training) + len(held_out) == len(COLOURS) * len(DIGITS) * len(PLACES)
    assert not any(map(is_held_out, sample_numerals(np.random.default_rng(1), 500, open_facts=0.1)))


def test_a_digit_covers_its_window_as_often_wherever_it_is_shifted():
    for digit in DIGITS:
        assert coverage(digit).shape == (WINDOW + 1, WINDOW + 1)
        assert coverage(digit, 3, 5).sum() == pytest.approx(coverage(digit).sum(), rel=1e-5)
    rows = np.flatnonzero((coverage("8") > 0.5).any(axis=1))
    assert rows[0] + rows[-1] == pytest.approx(WINDOW - 1, abs=1)  # in the middle


def test_drawing_depends_on_the_generator_alone_and_stays_in_the_picture():
    numerals = [Numeral("black", digit, place) for digit, place in zip(DIGITS, PLACES, strict=False)]
    first, again, other = (draw(numerals, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    # Nothing is cut off at an edge: as much is painted as the digit covers.
    painted = ((BACKGROUND[0] - first[..., 0].astype(float)) / (BACKGROUND[0] - COLOURS["black"][0])).sum((1, 2))
    covered = [coverage(numeral.digit).sum() for numeral in numerals]
    np.testing.assert_allclose(painted, covered, rtol=0.01)


@pytest.mark.parametrize("held_out", [False, True])
def test_the_judge_is_right_about_drawn_pictures(held_out):
    rng = np.random.default_rng(4)
    numerals = sample_numerals(rng, 200, held_out=held_out)
    verdicts = [judge_digit(picture, one) for picture, one in zip(draw(numerals, rng), numerals, strict=True)]
    assert all(verdict.right for verdict in verdicts)


def test_the_judge_notices_every_single_wrong_fact():
    picture = draw([parse_caption("a red 7 in the top left")], np.random.default_rng(0))[0]
    wrong = {"a blue 7 in the top left": "colour", "a red 1 in the top left": "digit", "a red 7 at the top": "place"}
    for text, part in wrong.items():
        verdict = judge_digit(picture, parse_caption(text))
        assert [name for name in ("colour", "digit", "place") if not getattr(verdict, name)] == [part]


def test_the_judge_sees_nothing_in_empty_faint_or_crowded_pictures():
    empty = np.full((SIDE, SIDE, 3), BACKGROUND, dtype=np.uint8)
    assert read_digit(empty) is None
    asked = parse_caption("a red 7 on the left")
    drawn = draw([asked, parse_caption("a red 7 on the right")], np.random.default_rng(0))
    faint = (0.85 * np.float64(empty) + 0.15 * drawn[0]).astype(np.uint8)
    assert not judge_digit(faint, asked).right
    assert not judge_digit(drawn.min(axis=0), asked).right  # both at once
    with pytest.raises(ValueError, match="64 by 64"):
        read_digit(empty[:32])


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=list(SUBJECTS))
def test_subjects_hold_together(subject):
    facts = [*subject.sample(np.random.default_rng(0), 20, pairs=0.5, open_facts=0.2), *subject.held_out(20, 3)]
    assert [subject.parse(subject.caption(fact)) for fact in facts] == facts
    assert {word for fact in facts for word in subject.caption(fact).split()} <= set(subject.words)
    assert subject.parse(subject.example)
    pictures = subject.draw(facts, np.random.default_rng(1))
    assert all(subject.judge(picture, fact).right for picture, fact in zip(pictures, facts, strict=True))
    assert all(isinstance(subject.group(fact), str) for fact in facts)


def test_an_unknown_subject_is_one_sentence():
    with pytest.raises(InputError, match=r"Subject 'digit' is unknown; use shapes or digits\. Did you mean 'digits'\?"):
        subject_of("digit")
