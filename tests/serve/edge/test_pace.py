# SPDX-License-Identifier: Apache-2.0
"""Running means of an edge: what stands until something better is known."""

from __future__ import annotations

import pytest

from edgegen.serve.edge.pace import Pace
from tests.serve.edge.fake_engine import cards


def test_a_load_at_the_start_stands_until_another_one():
    pace = Pace(cards())
    assert pace.load_s("d") == 4
    pace.loaded_at_start("d", 15.0)
    assert pace.load_s("d") == 15
    pace.loaded("d", False, 1.0)
    pace.loaded("d", False, 2.0)
    assert pace.load_s("d") == pytest.approx(0.7 * 1 + 0.3 * 2)
