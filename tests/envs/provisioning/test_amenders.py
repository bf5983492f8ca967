# SPDX-License-Identifier: Apache-2.0
"""Amenders: what they make is always feasible, what is feasible passes unchanged, and cases worked out by hand."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.envs.core.errors import InputError
from edgegen.envs.provisioning.amenders import (
    drop_to_fit,
    fill_storage,
    fit_bandwidth,
    fit_compute,
    keep_all,
    make_caching_amender,
    raw_from_shares,
    shares_from_raw,
    steps_from_share,
    storage_overflow_gb,
)
from edgegen.envs.provisioning.parts import AllocationRule

PROPERTY = settings(max_examples=100, deadline=None)
LEAST = 1e-3
RULES = [AllocationRule(map=m, shares=s) for m, s in itertools.product(("affine", "absolute"), ("normalise", "scale"))]  # type: ignore[arg-type]


def doubles(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def caching(wanted: list[int], size: list[float], storage: float, popularity: list[float]) -> list[int]:
    bits = torch.tensor(wanted, dtype=torch.bool)
    return drop_to_fit(bits, doubles(size), doubles([storage]), doubles(popularity)).int().tolist()


def test_dropping_by_hand() -> None:
    # Popularity per GB is 0.1, 0.2, 0.05 and 0.15. All take 10 GB; the third goes first, then the first.
    size, popularity = [2.0, 1, 4, 3], [0.2, 0.2, 0.2, 0.45]
    assert caching([1, 1, 1, 1], size, 10, popularity) == [1, 1, 1, 1]  # exactly full
    assert caching([1, 1, 1, 1], size, 9.9, popularity) == [1, 1, 0, 1]
    assert caching([1, 1, 1, 1], size, 5, popularity) == [0, 1, 0, 1]
    assert caching([1, 0, 1, 0], size, 5, popularity) == [1, 0, 0, 0]  # what is not wanted is not added
    assert caching([0, 0, 0, 0], size, 5, popularity) == [0, 0, 0, 0]


def test_ties_cost_the_highest_number() -> None:
    assert caching([1, 1, 1, 1], [1, 1, 1, 1], 2, [0, 0, 0, 0]) == [1, 1, 0, 0]
    assert caching([1, 0, 1, 1], [1, 2, 1, 1], 2, [0.1, 0.2, 0.1, 0.1]) == [1, 0, 1, 0]


def test_a_model_larger_than_the_storage() -> None:
    assert caching([1, 1], [30, 5], 20, [0.1, 0.9]) == [0, 1]
    assert caching([1, 0], [30, 5], 20, [0.9, 0.1]) == [0, 0]
    # It is worth more per GB than the other one, so that goes first; then it goes too.
    assert caching([1, 1], [30, 5], 20, [0.99, 0.01]) == [0, 0]


def test_decimals_that_fill_the_storage_exactly_fit() -> None:
    assert 0.1 + 0.2 > 0.3  # in binary
    assert caching([1, 1], [0.1, 0.2], 0.3, [1, 1]) == [1, 1]
    full = torch.tensor([True, True])
    assert float(storage_overflow_gb(full, doubles([0.1, 0.2]), doubles([0.3]))) == 0


def test_keeping_all_and_its_overflow() -> None:
    wanted = torch.tensor([[True, True, False], [True, False, False]])
    size, storage = doubles([3, 4, 5]), doubles([[5.0], [5.0]])
    assert torch.equal(keep_all(wanted, size, storage, wanted.double()), wanted)
    assert storage_overflow_gb(wanted, size, storage).tolist() == [2, 0]
    assert make_caching_amender("penalty") is keep_all
    with pytest.raises(InputError, match=r"'dorp'; there are drop, penalty\. Did you mean 'drop'\?"):
        make_caching_amender("dorp")


@st.composite
def storages(draw: st.DrawFn) -> tuple[torch.Tensor, ...]:
    """Any decisions ``[E, M]``, sizes, storages and popularities, often with ties."""
    copies, models = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    numbers = st.integers(1, 12).map(lambda n: n / 10) if draw(st.booleans()) else st.floats(0.01, 50)

    def rows(values: st.SearchStrategy[Any], width: int) -> Any:
        return draw(st.lists(st.lists(values, min_size=width, max_size=width), min_size=copies, max_size=copies))

    wanted = torch.tensor(rows(st.booleans(), models))
    return wanted, doubles(rows(numbers, models)), doubles(rows(numbers, 1)), doubles(rows(st.floats(0, 1), models))


@PROPERTY
@given(storages())
def test_caches_fit_and_lose_nothing_without_need(case: tuple[torch.Tensor, ...]) -> None:
    wanted, size, storage, popularity = case
    kept = drop_to_fit(wanted, size, storage, popularity)
    assert (storage_overflow_gb(kept, size, storage) == 0).all()
    assert not (kept & ~wanted).any()
    fits = storage_overflow_gb(wanted, size, storage) == 0
    assert torch.equal(kept[fits], wanted[fits])
    assert torch.equal(drop_to_fit(kept, size, storage, popularity), kept)
    for e in range(len(wanted)):  # a plain loop drops the same models
        left = [m for m in range(wanted.shape[1]) if wanted[e, m]]
        while sum(float(size[e, m]) for m in left) > float(storage[e, 0]) * (1 + 1e-9):
            left.remove(min(left, key=lambda m: (float(popularity[e, m] / size[e, m]), -m)))
        assert kept[e].nonzero()[:, 0].tolist() == left


@PROPERTY
@given(storages())
def test_filling_is_a_plain_loop(case: tuple[torch.Tensor, ...]) -> None:
    _, size, storage, priority = case
    filled = fill_storage(priority, size, storage)
    assert (storage_overflow_gb(filled, size, storage) == 0).all()
    for e in range(len(size)):
        free, taken = float(storage[e, 0]) * (1 + 1e-9), []
        for m in sorted(range(size.shape[1]), key=lambda m: (-float(priority[e, m]), m)):
            if float(size[e, m]) <= free:
                free -= float(size[e, m])
                taken.append(m)
        assert filled[e].nonzero()[:, 0].tolist() == sorted(taken)


def test_bandwidth_by_hand() -> None:
    torch.testing.assert_close(fit_bandwidth(doubles([2, 2]), 0.1), doubles([0.5, 0.5]))
    # 0 is lifted to 0.1; the others have 0.9 and 0.3 above 0.1, for which 1 - 3 * 0.1 = 0.7 is left.
    torch.testing.assert_close(fit_bandwidth(doubles([1, 0, 0.4]), 0.1), doubles([0.1 + 0.525, 0.1, 0.1 + 0.175]))
    torch.testing.assert_close(fit_bandwidth(doubles([0, 0, 0]), 0.1), doubles([0.1, 0.1, 0.1]))
    torch.testing.assert_close(fit_bandwidth(doubles([-3, 0.2]), 0.5), doubles([0.5, 0.5]))


def test_compute_by_hand() -> None:
    hit = torch.tensor([True, False, True])
    torch.testing.assert_close(fit_compute(doubles([0.2, 0.9, 0.3]), hit), doubles([0.2, 0, 0.3]))
    torch.testing.assert_close(fit_compute(doubles([1, 1, 3]), hit), doubles([0.25, 0, 0.75]))
    torch.testing.assert_close(fit_compute(doubles([-1, 1, 3]), hit), doubles([0, 0, 1]))
    assert fit_compute(doubles([1, 1, 1]), ~hit & hit).tolist() == [0, 0, 0]


def test_steps_by_hand() -> None:
    budget, saturation = doubles([1000]), doubles([170, 170, 170, 100])
    assert steps_from_share(doubles([0.1599, 0.16, 0.5, 0.3]), budget, saturation).tolist() == [159, 160, 170, 100]
    single = torch.tensor([0.07, 0.29, 0.57])  # not exact in binary: 0.57 * 1000 is 569.99... in single precision
    assert steps_from_share(single, torch.tensor([1000.0]), torch.tensor(9999.0)).tolist() == [70, 290, 570]


shares = st.integers(1, 9).flatmap(
    lambda n: st.lists(st.floats(-0.5, 3, width=32) | st.just(0.0), min_size=n, max_size=n)
)


@PROPERTY
@given(shares, st.integers(0, 2**9 - 1), st.sampled_from([torch.float32, torch.float64]))
def test_shares_become_feasible(values: list[float], hits: int, dtype: torch.dtype) -> None:
    raw = torch.tensor(values, dtype=dtype)
    hit = torch.tensor([bool(hits >> n & 1) for n in range(len(values))])
    bandwidth, compute = fit_bandwidth(raw, LEAST), fit_compute(raw, hit)
    assert (bandwidth >= LEAST * (1 - 1e-6)).all()
    assert float(bandwidth.sum()) <= 1 + 2e-6
    assert (compute >= 0).all()
    assert (compute[~hit] == 0).all()
    assert float(compute.sum()) <= 1 + 2e-6
    assert (
        float(steps_from_share(compute, torch.tensor(1000, dtype=dtype), torch.tensor(9e9, dtype=dtype)).sum()) <= 1000
    )


@PROPERTY
@given(
    st.lists(st.floats(2**-7, 1, width=32), min_size=1, max_size=9),
    st.floats(0.1, 1),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_feasible_shares_pass_unchanged(weights: list[float], used: float, dtype: torch.dtype) -> None:
    share = torch.tensor(weights, dtype=dtype)
    share = share / share.sum() * used
    hit = torch.ones_like(share, dtype=torch.bool)
    assert torch.equal(fit_bandwidth(share, 1e-5), share)
    assert torch.equal(fit_compute(share, hit), share)


@pytest.mark.parametrize("rule", RULES)
@PROPERTY
@given(raw=st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=16), hits=st.integers(0, 255))
def test_raw_actions_become_feasible_shares(rule: AllocationRule, raw: list[float], hits: int) -> None:
    users = len(raw) // 2
    action, hit = torch.tensor(raw[: 2 * users]), torch.tensor([bool(hits >> n & 1) for n in range(users)])
    bandwidth, compute = shares_from_raw(rule, action[:users], action[users:], hit)
    assert (bandwidth > 0).all()
    assert (compute >= 0).all()
    assert (compute[~hit] == 0).all()
    for share in (bandwidth, compute):
        assert share.isfinite().all()
        assert float(share.sum()) <= 1 + 1e-5
    if rule.shares == "normalise":
        assert float(bandwidth.sum()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(fit_compute(compute, hit), compute)  # nothing is left for the simulator to amend


@pytest.mark.parametrize("rule", RULES)
def test_feasible_shares_survive_the_way_through_a_raw_action(rule: AllocationRule) -> None:
    bandwidth, compute = doubles([0.2, 0.3, 0.5]), doubles([0.25, 0, 0.75])
    hit = torch.tensor([True, False, True])
    again = shares_from_raw(rule, raw_from_shares(rule, bandwidth), raw_from_shares(rule, compute), hit)
    torch.testing.assert_close(again, (bandwidth, compute))
    if rule.shares == "scale":  # what leaves something unused as well
        again = shares_from_raw(rule, raw_from_shares(rule, bandwidth / 2), raw_from_shares(rule, compute / 3), hit)
        torch.testing.assert_close(again, (bandwidth / 2, compute / 3))


def test_corners_of_raw_actions() -> None:
    affine, absolute = AllocationRule(), AllocationRule(map="absolute", bandwidth_lift=0.1)
    nothing, hit = doubles([-1, -1, -1]), torch.tensor([True, True, False])
    bandwidth, compute = shares_from_raw(affine, nothing, nothing, hit)
    torch.testing.assert_close(bandwidth, doubles([1, 1, 1]) / 3)
    assert compute.tolist() == [0, 0, 0]
    bandwidth, compute = shares_from_raw(affine, doubles([0, 0, 1]), doubles([1, -0.5, 1]), hit)
    torch.testing.assert_close(bandwidth, doubles([0.25, 0.25, 0.5]))
    torch.testing.assert_close(compute, doubles([0.8, 0.2, 0]))  # 1 and 0.25
    bandwidth, compute = shares_from_raw(absolute, doubles([0, -0.2, 0.1]), doubles([-0.3, 0.1, 1]), hit)
    torch.testing.assert_close(bandwidth, doubles([0.25, 0.5, 0.25]))  # 0 is lifted to 0.1
    torch.testing.assert_close(compute, doubles([0.75, 0.25, 0]))
    assert shares_from_raw(affine, nothing, nothing + 2, ~hit & hit)[1].tolist() == [0, 0, 0]  # all misses
