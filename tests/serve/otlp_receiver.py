# SPDX-License-Identifier: Apache-2.0
"""A small receiver of OTLP over HTTP on the loopback interface."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Got = list[tuple[str, dict[str, str], ExportTraceServiceRequest]]


@contextmanager
def receiving() -> Iterator[tuple[str, Got]]:
    """Yield its address, and the requests that it gets: path, headers and content."""

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.path, dict(self.headers), ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    got: Got = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receive)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def spans_of(got: Got) -> dict[str, list[str]]:
    """Names of all spans, by trace."""
    traces: dict[str, list[str]] = {}
    for _, _, request in got:
        for service in request.resource_spans:
            for scope in service.scope_spans:
                for span in scope.spans:
                    traces.setdefault(span.trace_id.hex(), []).append(span.name)
    return traces
