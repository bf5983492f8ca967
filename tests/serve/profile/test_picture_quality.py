# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from edgegen.envs.core.errors import InputError
from edgegen.serve.profile.picture_quality import (
    distance_percent,
    mean_of,
    percentage_of,
    total_variation,
    variation_per_pixel,
    wrong_pictures,
)
from edgegen.serve.zoo.subjects import SUBJECTS


def test_total_variation_by_hand():
    # One grey channel: the right column is white, so each of the three rows has one step of 1 to the right.
    stripe = np.array([[0, 255], [0, 255], [0, 255]], dtype=np.uint8)[None, :, :, None]
    assert total_variation(stripe).tolist() == [3.0]
    # 3 x 255 levels over six pixels.
    assert variation_per_pixel(stripe).tolist() == [127.5]
    # Down: |51 - 0| + |0 - 102| = 153; right: |102 - 0| + |0 - 51| = 153; so 306 of 255 levels.
    corner = np.array([[0, 102], [51, 0]], dtype=np.uint8)[None, :, :, None]
    assert total_variation(corner)[0] == pytest.approx(306 / 255)
    assert variation_per_pixel(corner)[0] == pytest.approx(306 / 4)


def test_channels_add_up_in_the_sum_and_are_averaged_per_pixel():
    grey = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 1), dtype=np.uint8)
    colour = np.repeat(grey, 3, axis=3)
    np.testing.assert_allclose(total_variation(colour), 3 * total_variation(grey))
    np.testing.assert_allclose(variation_per_pixel(colour), variation_per_pixel(grey))


def test_total_variation_knows_no_direction_of_grey_and_no_empty_picture():
    pictures = np.random.default_rng(1).integers(0, 256, (3, 6, 6, 3), dtype=np.uint8)
    np.testing.assert_allclose(total_variation(255 - pictures), total_variation(pictures))
    np.testing.assert_allclose(total_variation(pictures.transpose(0, 2, 1, 3)), total_variation(pictures))
    assert total_variation(np.full((1, 6, 6, 3), 77, dtype=np.uint8)).tolist() == [0.0]
    board = (np.indices((6, 6)).sum(0) % 2 * 255).astype(np.uint8)[None, :, :, None]
    # A chess board is the worst there is: 2 * 6 * 5 steps of 255 levels over 36 pixels.
    assert variation_per_pixel(board)[0] == pytest.approx(60 * 255 / 36)


def test_distance_by_hand():
    black, white = np.zeros((1, 2, 2, 3), dtype=np.uint8), np.full((1, 2, 2, 3), 255, dtype=np.uint8)
    assert distance_percent(black, white).tolist() == [100.0]
    assert distance_percent(black, black).tolist() == [0.0]
    one = black.copy()
    one[0, 0, 0] = 255  # one of four pixels: the root of a quarter
    assert distance_percent(one, black).tolist() == [50.0]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("shapes", ("a large red circle in the top left", "a small blue square on the right")),
        ("digits", ("a red 7 in the top left", "a blue 4 on the right")),
    ],
)
def test_drawn_pictures_are_right_and_others_wrong(name, texts):
    subject = SUBJECTS[name]
    facts = [subject.parse(text) for text in texts]
    pictures = subject.draw(facts, np.random.default_rng(0))
    assert wrong_pictures(pictures, subject, facts).tolist() == [False, False]
    assert wrong_pictures(pictures, subject, facts[::-1]).tolist() == [True, True]
    with pytest.raises(InputError, match="64 x 64 x 3 values, not 32 x 64 x 3"):
        wrong_pictures(pictures[:, ::2], subject, facts)


def test_estimates():
    estimate = mean_of(np.array([1.0, 3.0]))
    assert estimate.mean == 2
    # t of one degree of freedom at 97.5 % is 12.706; the standard error is sqrt(2) / sqrt(2) = 1.
    assert (estimate.low, estimate.high) == pytest.approx((2 - 12.706, 2 + 12.706), abs=1e-3)
    assert math.isnan(mean_of(np.array([1.0])).low)
    share = percentage_of(np.array([False] * 10))
    # Wilson's upper end without a single event: z² / (n + z²).
    assert (share.mean, share.low) == (0, 0)
    assert share.high == pytest.approx(100 * 1.96**2 / (10 + 1.96**2), abs=0.01)
