# SPDX-License-Identifier: Apache-2.0
"""MLflow's client and the proxies of the environment."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edgegen.algorithms.core.registered import open_client


class Server(BaseHTTPRequestHandler):
    """An MLflow server without experiments."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"experiments": []}')

    def log_message(self, *words):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_this_machine_is_asked_directly(monkeypatch, host):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "10.0.0.0/8")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            client = open_client(f"http://{host}:{server.server_port}")
            assert client.search_experiments() == []
        finally:
            server.shutdown()
            thread.join()
