# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import numpy as np
import pytest

from edgegen.serve.zoo.judge import find_things, judge
from edgegen.serve.zoo.shapes import (
    BACKGROUND,
    COLOURS,
    PLACES,
    SHAPES,
    SIDE,
    SIZES,
    CaptionError,
    Scene,
    Thing,
    caption,
    draw,
    is_held_out,
    parse_caption,
    sample_scenes,
    single_scenes,
)


def test_captions_and_scenes_turn_into_each_other():
    scenes = sample_scenes(np.random.default_rng(0), 500, open_facts=0.3)
    assert [parse_caption(caption(scene)) for scene in scenes] == scenes


def test_captions_read_as_plain_english():
    assert caption(Scene(Thing("red", "circle", "large"), place="top left")) == "a large red circle in the top left"
    pair = Scene(Thing("orange", "cross"), relation="above", second=Thing("blue", "square", "small"))
    assert caption(pair) == "an orange cross above a small blue square"


def test_case_spaces_and_american_spelling_do_not_matter():
    wanted = Scene(Thing("green", "diamond", "small"), place="centre")
    assert parse_caption(" A small  GREEN diamond in the center ") == wanted


@pytest.mark.parametrize("text", ["", "a cat", "a red circle left of", "a pink circle", "red circle at the top"])
def test_a_text_outside_the_grammar_is_refused_with_an_example(text):
    with pytest.raises(CaptionError, match="a large red circle in the top left"):
        parse_caption(text)


def test_held_out_combinations_are_never_trained_on():
    rng = np.random.default_rng(1)
    training = sample_scenes(rng, 2000, open_facts=0.2)
    held_out = sample_scenes(rng, 500, held_out=True)
    assert not any(map(is_held_out, training))
    assert all(map(is_held_out, held_out))
    assert not {caption(scene) for scene in training} & {caption(scene) for scene in held_out}


def test_the_two_splits_of_single_scenes_cover_everything_once():
    training, held_out = set(single_scenes(held_out=False)), set(single_scenes(held_out=True))
    assert not training & held_out
    assert len(training) + len(held_out) == len(COLOURS) * len(SHAPES) * len(PLACES) * len(SIZES)
    seen = {(scene.first.colour, scene.first.shape) for scene in training}
    assert seen == {(colour, shape) for colour in COLOURS for shape in SHAPES}


def test_a_mirrored_pair_is_in_the_same_split():
    for scene in sample_scenes(np.random.default_rng(2), 200, pairs=1.0):
        assert scene.second is not None
        mirrored = Scene(scene.second, relation=scene.relation, second=scene.first)
        assert not is_held_out(mirrored)


def test_drawing_depends_on_the_generator_alone():
    scenes = sample_scenes(np.random.default_rng(3), 8)
    first, again, other = (draw(scenes, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.shape == (8, SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("held_out", [False, True])
def test_the_judge_is_right_about_drawn_pictures(held_out):
    rng = np.random.default_rng(4)
    scenes = sample_scenes(rng, 300, held_out=held_out, open_facts=0.1)
    verdicts = [judge(picture, scene) for picture, scene in zip(draw(scenes, rng), scenes, strict=True)]
    assert sum(verdict.complete for verdict in verdicts) / len(verdicts) >= 0.995


def test_the_judge_notices_every_single_wrong_fact():
    truth = Scene(Thing("red", "circle", "large"), place="top left")
    picture = draw([truth], np.random.default_rng(0))[0]
    wrong = {
        "a large blue circle in the top left": "colour",
        "a large red square in the top left": "shape",
        "a small red circle in the top left": "size",
        "a large red circle on the left": "place",
    }
    for text, part in wrong.items():
        verdict = judge(picture, parse_caption(text))
        assert [name for name in ("count", "colour", "shape", "size", "place") if not getattr(verdict, name)] == [part]
    assert not judge(picture, parse_caption("a red circle left of a blue square")).count


def test_the_judge_notices_a_turned_relation():
    truth = parse_caption("a large red circle left of a small blue square")
    picture = draw([truth], np.random.default_rng(0))[0]
    assert judge(picture, truth).complete
    assert judge(picture, parse_caption("a small blue square right of a large red circle")).complete
    assert not judge(picture, parse_caption("a large red circle right of a small blue square")).place
    assert not judge(picture, parse_caption("a large red circle above a small blue square")).place


def test_the_judge_sees_nothing_in_an_empty_or_blurred_picture():
    empty = np.full((SIDE, SIDE, 3), BACKGROUND, dtype=np.uint8)
    assert find_things(empty) == []
    scene = parse_caption("a large red circle in the centre")
    faint = (0.85 * np.float64(empty) + 0.15 * draw([scene], np.random.default_rng(0))[0]).astype(np.uint8)
    assert not judge(faint, scene).right


def test_the_judge_refuses_pictures_of_another_size():
    with pytest.raises(ValueError, match="64 by 64"):
        find_things(np.zeros((32, 32, 3), dtype=np.uint8))


def test_importing_the_zoo_loads_no_model_library():
    program = "import sys, edgegen.serve.zoo; print(sorted({'diffusers', 'transformers', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
