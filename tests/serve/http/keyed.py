# SPDX-License-Identifier: Apache-2.0
"""A file of keys for tests, and how requests name one."""

from __future__ import annotations

import itertools
import os

from edgegen.serve.http.key_file import KeyFile, new_key

BODY = {"prompt": "a red circle", "num_inference_steps": 4}
KIND = "invalid_request_error"


class Keys:
    """A file that keys are added to: ``add(name, **limits)`` returns the key."""

    def __init__(self, path):
        self.path = path
        self.known = KeyFile()
        self.write()

    def add(self, name, **limits):
        text, key = new_key(name, **limits)
        self.known = self.known.with_key(key)
        self.write()
        return text

    def revoke(self, name):
        self.known = self.known.without(name)
        self.write()

    def write(self, text=None):
        before = self.path.stat().st_mtime_ns if self.path.exists() else 0
        self.path.write_text(self.known.text() if text is None else text)
        later = max(self.path.stat().st_mtime_ns, before + 1)  # clocks of file systems are coarse
        os.utime(self.path, ns=(later, later))


def bearer(text):
    return {"authorization": f"Bearer {text}"}


def at_once(gateway):
    """Have a gateway look at its file with every request."""
    readings = itertools.count(10**9, 10)
    gateway.keys._clock = lambda: float(next(readings))
