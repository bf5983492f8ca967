# SPDX-License-Identifier: Apache-2.0
"""The console over HTTP: files with their policy, and the state of the fleet, once and as a stream."""

from __future__ import annotations

import asyncio
import re
from html.parser import HTMLParser
from importlib.resources import files

import httpx
import pytest

from edgegen.serve.console.assets import KINDS, POLICY, assets
from edgegen.serve.console.viewers import MOST_VIEWERS
from edgegen.serve.front import Front, Limits
from edgegen.serve.http.key_file import KeyFile, new_key
from edgegen.serve.http.web import create_app
from tests.serve.console.reading import EVENTS, reading
from tests.serve.fake_edges import URL, check_error, held, serve

MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|document\.write|\beval\b|new Function"
"""Ways in which a text could become something else."""
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """Elements of a page; fails if they are not closed as they were opened, or an id is there twice."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.ids = [], [], set()

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"<{tag}> at {self.getpos()} has an attribute twice"
        given = dict(attributes)
        self.elements.append((tag, given))
        if "id" in given:
            assert given["id"] not in self.ids, given["id"]
            self.ids.add(given["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> at {self.getpos()} closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()} closes something else"


def page():
    parsed = Page()
    parsed.feed(assets()["index.html"].body.decode())
    parsed.close()
    assert not parsed.open
    return parsed


def test_the_page_and_its_files_are_served_with_their_policy(make_config):
    async def scenario(client, edges, gateway):
        for name in ("", *(f"console/{name}" for name in assets())):
            answer = await client.get(f"/{name}")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == KINDS["." + (name or ".html").rpartition(".")[2]]
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
            again = await client.get(f"/{name}", headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        assert (await client.get("/")).content == assets()["index.html"].body
        assert (await client.head("/")).content == b""
        check_error(await client.get("/console/watch.py"), 404, "invalid_request_error", "/console/watch.py")
        check_error(await client.get("/console/..%2fwatch.py"), 404, "invalid_request_error")

    serve(scenario, make_config())


def test_the_policy_allows_nothing_from_elsewhere_and_no_code_in_the_page():
    allowed = dict(part.split(" ", 1) for part in POLICY.split("; "))
    assert allowed["default-src"] == "'none'"
    assert allowed["script-src"] == allowed["style-src"] == allowed["connect-src"] == "'self'"
    assert "unsafe" not in POLICY
    assert not re.search(r"https?:|data:|\*", POLICY)


def test_every_file_is_there_and_needs_nothing_from_elsewhere():
    on_disk = {path.name for path in files("edgegen.serve.console").joinpath("page").iterdir()}
    assert set(assets()) == on_disk
    for name, asset in assets().items():
        text = asset.body.decode()
        assert not re.findall(r"https?://(?!www\.w3\.org/)[^\s\"')]*", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), (
            name
        )
        for other in re.findall(r"(?:from|import) \"\./([^\"]+)\"", text):
            assert other in assets(), f"{name} imports {other}"


def test_the_page_is_valid_and_names_its_controls():
    parsed = page()
    by_tag = {tag: [given for name, given in parsed.elements if name == tag] for tag, _ in parsed.elements}
    assert by_tag["html"] == [{"lang": "en"}]
    assert len(by_tag["title"]) == len(by_tag["h1"]) == len(by_tag["main"]) == 1
    labelled = {given["for"] for given in by_tag["label"] if "for" in given}
    for tag in ("input", "select", "textarea"):
        for given in by_tag.get(tag, []):
            assert given.get("id") in labelled or "aria-label" in given, given
    for given in (attributes for _, attributes in parsed.elements):
        assert not [name for name in given if name.startswith("on") or name == "style"], given
        for name in ("aria-labelledby", "aria-describedby", "aria-controls", "for"):
            assert set((given.get(name) or "").split()) <= parsed.ids, given
    for given in by_tag["script"]:
        assert given["type"] == "module"
        assert given["src"].removeprefix("/console/") in assets()


def test_the_state_holds_no_prompt_unless_the_config_says_so(make_config, tmp_path):
    for shown in (False, True):

        async def scenario(client, edges, gateway, shown=shown):
            answer = await client.post(URL, json={"prompt": "a secret", "seed": 7})
            assert answer.status_code == 200
            state = await client.get("/v1/fleet")
            assert ("a secret" in state.text) == shown
            (row,) = state.json()["requests"]
            assert (row["outcome"], row["seed"], row["edge"]) == ("served", 7, answer.json()["edgegen"]["server"])
            assert [edge["name"] for edge in state.json()["edges"]] == ["edge-a", "edge-b", "edge-c"]
            assert state.json()["state"]["policies"]["router"] == "least-delay"
            assert len(state.json()["decisions"]) == 1

        record = {"folder": str(tmp_path), "prompts": "text" if shown else "hash"}
        serve(scenario, make_config(record=record))


def test_a_stream_shows_requests_as_they_come_and_go(make_config):
    async def scenario(client, edges, gateway):
        app = create_app(gateway)
        async with reading(app) as stream:
            assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            assert stream.headers["cache-control"] == "no-store"
            name, whole = await stream.event()
            assert (name, len(whole["edges"])) == ("fleet", 3)
            under_way = await held(client, [edges["edge-a"]], 2, edge="edge-a")
            seen: list[dict[str, str]] = []
            rows: list[dict[str, str]] = []
            while len(seen) < 2:
                name, change = await stream.event()
                assert name == "change"
                seen += change.get("decisions", [])
            assert [one["home"] for one in seen] == ["edge-a", "edge-a"]
            edges["edge-a"].hold.set()
            await asyncio.gather(*under_way)
            while len(rows) < 2:
                rows += (await stream.event())[1].get("requests", [])
            assert {row["outcome"] for row in rows} == {"served"}
            assert len(gateway.watch.viewers) == 1
        await asyncio.sleep(0)
        assert not gateway.watch.viewers

    serve(scenario, make_config())


def test_watching_asks_no_edge_anything(make_config):
    async def scenario(client, edges, gateway):
        asked = []
        for edge in edges.values():
            edge.report = lambda *args: asked.append(args)
        async with reading(create_app(gateway)) as stream:
            await stream.event()
            for _ in range(3):
                await client.get("/v1/fleet")
        assert not asked

    serve(scenario, make_config(report_period_s=60))


def test_too_many_viewers_are_refused_in_one_sentence(make_config):
    async def scenario(client, edges, gateway):
        for _ in range(MOST_VIEWERS):
            gateway.watch.join()
        check_error(await client.get(EVENTS), 503, "service_unavailable_error", str(MOST_VIEWERS), "/v1/fleet")
        assert (await client.get("/v1/fleet")).status_code == 200
        assert (await client.head(EVENTS)).headers["content-type"].startswith("text/event-stream")
        await gateway.drain(1.0)
        check_error(await client.get(EVENTS), 503, "service_unavailable_error", "about to end")

    serve(scenario, make_config())


def test_the_page_is_for_all_and_what_it_shows_for_those_with_a_key(make_config, tmp_path):
    text, key = new_key("me")
    path = tmp_path / "keys.json"
    path.write_text(KeyFile().with_key(key).text())

    async def scenario(client, edges, gateway):
        for name in ("", *(f"console/{name}" for name in assets())):
            assert (await client.get(f"/{name}")).status_code == 200
        for state in ("/v1/fleet", EVENTS):
            check_error(await client.get(state), 401, "invalid_request_error", "key")
        answer = await client.get("/v1/fleet", headers={"authorization": f"Bearer {text}"})
        assert answer.status_code == 200
        assert answer.json()["edges"]

    serve(scenario, make_config(keys=str(path)))


def test_a_service_can_do_without_the_console(make_config):
    async def scenario(client, edges, gateway):
        assert gateway.watch is None
        for path in ("/", "/v1/fleet", EVENTS, "/console/style.css"):
            answer = await client.get(path)
            check_error(answer, 404, "invalid_request_error", path)
            assert "/v1/fleet," not in answer.text
        assert (await client.post(URL, json={"prompt": "x"})).status_code == 200

    serve(scenario, make_config(console=False))


def test_a_stream_may_last_longer_than_other_questions_about_the_state(make_config):
    async def scenario(client, edges, gateway):
        front = Front(create_app(gateway), Limits(state_timeout_s=0.2, stalled_s=0.3))
        async with reading(front) as stream:
            assert (await stream.event())[0] == "fleet"
            await asyncio.sleep(0.5)
            await client.post(URL, json={"prompt": "x"})
            assert (await stream.event())[0] == "change"
            stream.reads.clear()  # the client does not take anything any more
            await client.post(URL, json={"prompt": "x"})
            await asyncio.wait_for(stream.over.wait(), 20)
        await asyncio.sleep(0.1)
        assert not gateway.watch.viewers

    serve(scenario, make_config())


@pytest.mark.parametrize("path", ["/", "/v1/fleet"])
def test_the_front_passes_on_what_is_no_stream(make_config, path):
    async def scenario(client, edges, gateway):
        transport = httpx.ASGITransport(Front(create_app(gateway)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as through:
            assert (await through.get(path)).status_code == 200

    serve(scenario, make_config())
