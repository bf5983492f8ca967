# SPDX-License-Identifier: Apache-2.0
import pytest

from edgegen.envs.core.device import check_device, finish, is_gpu
from edgegen.envs.core.errors import InputError


def test_the_cpu_is_there_and_never_works_on():
    check_device("cpu")
    finish("cpu")


@pytest.mark.parametrize("device", ["cuda:99", "toaster", "meta", ""])
def test_a_device_that_can_not_be_used_is_refused_in_one_sentence(device):
    with pytest.raises(InputError, match=f"^Device '{device}' can not be used: .*[^.]\\.$") as caught:
        check_device(device)
    assert "\n" not in str(caught.value)


def test_a_gpu_is_told_by_its_kind():
    """Not by a name that differs from "cpu": a benchmark on ``cpu:0`` must not ask Ray for a GPU."""
    assert [is_gpu(device) for device in ("cpu", "cpu:0", "cuda", "cuda:1")] == [False, False, True, True]
