"""WebSockets of python3-websockets through the edge alone, to Hypercorn by HTTP/1.1 and, as extended CONNECT, by HTTP/2."""
import asyncio
import contextlib
import sys

import pytest
import websockets

from test_edge_conformance import HERE, HOST, PATIENCE_SECONDS, edge_before, free_port, running

SIZES = (0, 1, 125, 126, 65_535, 65_536, 1_048_576)


@pytest.fixture(scope="module", params=[(protocol, io) for protocol in ("http1", "http2") for io in ("best", "epoll")],
                ids="-".join)
def port(request, tmp_path_factory):
    target = free_port()
    protocol, io = request.param
    with running(target, sys.executable, HERE / "edge_site.py", target, tmp_path_factory.mktemp("site") / "report"):
        with edge_before(target, io, "/length", {"EDGE_BENCH_PROTOCOL": protocol}) as edge:
            yield edge


def connect(port, path="/ws", **options):
    # By HTTP/2 Hypercorn answers Close and leaves the stream open: its client need not wait long for the end.
    return websockets.connect(f"ws://{HOST}:{port}{path}", max_size=None, close_timeout=1, **options)


def talk(port, work, path="/ws", **options):
    async def whole():
        async with connect(port, path, **options) as one:
            return await work(one)
    return asyncio.run(asyncio.wait_for(whole(), 2 * PATIENCE_SECONDS))


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_of_all_sizes_come_back(port, compression):
    async def work(one):
        for size in SIZES:
            for message in ("x" * size, bytes(size)):
                await one.send(message)
                assert await one.recv() == message
    talk(port, work, compression=compression)


def test_messages_in_fragments_and_many_at_once(port):
    async def work(one):
        await one.send(b"abc" for _ in range(500))
        assert await one.recv() == b"abc" * 500
        for i in range(300):
            await one.send(str(i))
        assert [await one.recv() for _ in range(300)] == [str(i) for i in range(300)]
    talk(port, work)


def test_pings_are_answered(port):
    async def work(one):
        for payload in (b"", b"p" * 125):
            await asyncio.wait_for(await one.ping(payload), PATIENCE_SECONDS)
    talk(port, work)


def test_a_protocol_is_chosen(port):
    async def work(one):
        return one.subprotocol
    assert talk(port, work, subprotocols=["chat", "other"]) == "chat"


def test_either_side_closes_with_its_code(port):
    async def by_us(one):
        await one.close(3001, "done")
        return one.close_code
    assert talk(port, by_us) == 3001

    async def by_them(one):
        await one.send("close 4000")
        with contextlib.suppress(websockets.ConnectionClosed):
            await one.recv()
        return one.close_code
    assert talk(port, by_them) == 4000


def test_a_refusal_is_an_answer(port):
    with pytest.raises(websockets.InvalidStatusCode) as refused:
        talk(port, None, path="/refused")
    assert refused.value.status_code == 403


def test_fifty_at_once(port):
    async def one_of_them(i):
        async with connect(port) as one:
            for _ in range(20):
                await one.send(str(i))
                assert await one.recv() == str(i)

    async def all_of_them():
        await asyncio.gather(*(one_of_them(i) for i in range(50)))
    asyncio.run(asyncio.wait_for(all_of_them(), 2 * PATIENCE_SECONDS))
