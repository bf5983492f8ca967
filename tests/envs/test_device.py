import pytest

from edgegen.envs.device import check_device, finish
from edgegen.envs.errors import InputError


def test_the_cpu_is_there_and_never_works_on():
    check_device("cpu")
    finish("cpu")


@pytest.mark.parametrize("device", ["cuda:99", "toaster", "meta", ""])
def test_a_device_that_can_not_be_used_is_refused_in_one_sentence(device):
    with pytest.raises(InputError, match=f"^Device '{device}' can not be used: .*[^.]\\.$") as caught:
        check_device(device)
    assert "\n" not in str(caught.value)
