# SPDX-License-Identifier: Apache-2.0
"""What the edges of tests have in common, unless a test is about it."""

from __future__ import annotations

from edgegen.serve.control.jobs import FIRST, Glimpse, Lease


class PlainEdge:
    """Leases as it is asked, shows no previews and keeps no pictures."""

    async def lease(self, job):
        return Lease(job.steps, 0.0, 0.0, 0.1, 60.0)

    async def release(self, name, generation_s=None):
        return False

    async def watch(self, name, seen, wait_s):
        return Glimpse(done=True)

    async def find(self, name, sending=FIRST):
        return None
