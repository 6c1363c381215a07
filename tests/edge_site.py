"""A web site for a browser's visit through the edge: an ASGI application under Hypercorn (Debian's python3-hypercorn),
which speaks HTTP/1.1, HTTP/2 by prior knowledge and WebSockets by both.

    edge_site.py PORT REPORT    serves until it is killed; what the page found out is written to REPORT, as JSON

The page (edge_page.html) makes its checks one after the other and posts [[name, well, what was seen]...].
"""
import asyncio
import gzip
import json
import os
import pathlib
import sys
import urllib.parse

import hypercorn.protocol
from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.protocol.h2 import H2Protocol

PATIENCE_SECONDS = 20
PAGE = pathlib.Path(__file__).resolve().parent / "edge_page.html"


class Site:
    def __init__(self, report):
        self.report = pathlib.Path(report)
        self.events = {}  # by name: what one request waits for and another says

    def event(self, name):
        return self.events.setdefault(name, asyncio.Event())

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        path = scope["path"].strip("/").replace("-", "_")
        query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
        if scope["type"] == "websocket":
            await self.websocket(path, scope, receive, send)
            return
        page = getattr(self, "page_" + path, None)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if page is None:
            await self.answer(send, b"no such page", 404)
        else:
            await page(scope=scope, query=query, headers=headers, receive=receive, send=send)

    @staticmethod
    async def answer(send, body, status=200, kind="text/plain", headers=()):
        await send({"type": "http.response.start", "status": status,
                    "headers": [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body)), *headers]})
        await send({"type": "http.response.body", "body": body})

    @staticmethod
    async def body(receive):
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                return body

    async def page_page(self, send, **_):
        await self.answer(send, PAGE.read_bytes(), kind="text/html; charset=utf-8")

    async def page_report(self, receive, send, **_):
        fresh = self.report.with_suffix(".new")
        fresh.write_bytes(await self.body(receive))
        fresh.rename(self.report)
        await self.answer(send, b"")

    async def page_info(self, scope, headers, send, **_):
        told = {"version": scope["http_version"], "method": scope["method"], "headers": headers}
        await self.answer(send, json.dumps(told).encode(), kind="application/json")

    async def page_length(self, receive, send, **_):
        await self.answer(send, b"%d" % len(await self.body(receive)))

    async def page_bytes(self, query, send, **_):
        await self.answer(send, os.urandom(1) * int(query["count"]), kind="application/octet-stream")

    async def page_redirect(self, send, **_):
        await self.answer(send, b"", 302, headers=[(b"location", b"/info?moved")])

    async def page_cookie(self, headers, send, **_):
        await self.answer(send, headers.get("cookie", "").encode(), headers=[(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])

    async def page_etag(self, headers, send, **_):
        known = headers.get("if-none-match") == '"x"'
        await self.answer(send, b"" if known else b"fresh", 304 if known else 200,
                          headers=[(b"etag", b'"x"'), (b"cache-control", b"no-cache"), (b"x-asked", b"1")])

    async def page_zipped(self, send, **_):
        await self.answer(send, gzip.compress(b"z" * 100_000), headers=[(b"content-encoding", b"gzip")])

    async def page_part(self, headers, send, **_):
        first, last = (int(one) for one in headers["range"].removeprefix("bytes=").split("-"))
        await self.answer(send, b"0123456789"[first:last + 1], 206, headers=[(b"content-range", b"bytes %d-%d/10" % (first, last))])

    async def page_say(self, query, send, **_):
        self.event(query["name"]).set()
        await self.answer(send, b"said")

    async def page_hear(self, query, send, **_):
        await asyncio.wait_for(self.event(query["name"]).wait(), PATIENCE_SECONDS)
        await self.answer(send, b"heard")

    # Each part is sent when somebody has seen the one before.
    async def page_stream(self, query, send, **_):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        for part in ("one", "two", "three"):
            await send({"type": "http.response.body", "body": part.encode() + b"\n", "more_body": True})
            await asyncio.wait_for(self.event(query["name"] + part).wait(), PATIENCE_SECONDS)
        await send({"type": "http.response.body", "body": b""})

    async def page_events(self, query, headers, send, **_):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        seen = headers.get("last-event-id")
        parts = ("one", "two") if seen is None else (f"again after {seen}",)
        for part in parts:
            told = f"retry: 10\nid: {part}\ndata: {part}\n\n".encode()
            await send({"type": "http.response.body", "body": told, "more_body": True})
            if seen is None:
                await asyncio.wait_for(self.event(query["name"] + part).wait(), PATIENCE_SECONDS)
        await send({"type": "http.response.body", "body": b""})

    # Until its client leaves, which it says to others.
    async def page_left(self, query, receive, send, **_):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"go away", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.event(query["name"]).set()

    @staticmethod
    async def websocket(path, scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        if path == "refused":
            await send({"type": "websocket.close"})
            return
        chosen = scope["subprotocols"][0] if scope["subprotocols"] else None
        await send({"type": "websocket.accept", "subprotocol": chosen})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is not None and text.startswith("close "):
                await send({"type": "websocket.close", "code": int(text.split()[1])})
            elif text == "version":
                await send({"type": "websocket.send", "text": scope["http_version"]})
            else:
                await send({"type": "websocket.send", "text": text, "bytes": message.get("bytes")})


class Streams(dict):
    """Hypercorn 0.13 ends the whole connection, with all its other streams, when DATA comes for one whose application has
    ended a moment ago; this lets it be dropped."""

    def __missing__(self, _):
        return self

    async def handle(self, event):
        pass


class PatientHttp2(H2Protocol):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.streams = Streams()


hypercorn.protocol.H2Protocol = PatientHttp2


def main():
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.accesslog = None
    asyncio.run(serve(Site(sys.argv[2]), config))


if __name__ == "__main__":
    main()
