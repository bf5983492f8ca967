# SPDX-License-Identifier: Apache-2.0
"""What errors say in one line."""

import pytest

from edgegen.envs.core.errors import first_line

REMOTE = """\x1b[36mray::Learner.update()\x1b[39m (pid=12, ip=192.0.2.1, actor_id=ab, repr=<Learner object at 0x7f>)
  File "learner.py", line 3, in update
    do_something()
ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.
\tclass_name: Learner
"""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("", "str"),
        (ValueError(), "ValueError"),
        ("\n  no room left.\nmore", "no room left"),
        (REMOTE, "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task"),
        ("ray::f() (pid=1)\n  File x", "ray::f() (pid=1)"),
    ],
)
def test_the_first_line_says_what_went_wrong(error, said):
    assert first_line(error) == said
