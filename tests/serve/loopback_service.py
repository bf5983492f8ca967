# SPDX-License-Identifier: Apache-2.0
"""A service on a port of this machine, in a thread and without Ray: with what edgegen puts into Serve's proxy."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import contextmanager

import uvicorn

from edgegen.serve.bounded_http import BoundedProtocol
from edgegen.serve.front import Front
from edgegen.serve.http.web import create_app
from edgegen.serve.request_log import ProxyIds
from tests.serve.emulated_service import edges_of, gateway_of


@contextmanager
def loopback(config):
    """Serve a config; gives its address."""
    clock = time.monotonic
    edges = edges_of(config, clock)
    app = ProxyIds(Front(create_app(gateway_of(config, edges, clock))))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=BoundedProtocol, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        asyncio.run(_close(edges))


async def _close(edges):
    for edge in edges.values():
        await edge.close()
