"""Autobahn's WebSocket server and client (Debian's python3-autobahn, on asyncio), as programs: a target and a visitor.

    websocket_peers.py serve PORT            echoes what it gets, until it is killed
    websocket_peers.py visit PORT HOST       speaks through the edge on PORT; prints one line "ok NAME" for each check
"""
import asyncio
import os
import sys

from autobahn.asyncio.websocket import (WebSocketClientFactory, WebSocketClientProtocol, WebSocketServerFactory,
                                        WebSocketServerProtocol)

PATIENCE_SECONDS = 20
SIZES = (0, 1, 125, 126, 127, 65_535, 65_536, 1_048_576)
FRAGMENTS = (1, 2, 7, 1_000)


class Echo(WebSocketServerProtocol):
    def onMessage(self, payload, isBinary):
        if payload.startswith(b"close "):
            self.sendClose(int(payload.split()[1]), "as asked")
        elif payload == b"ping me":
            self.sendPing(b"from the target")
        else:
            self.sendMessage(payload, isBinary)

    def onPong(self, payload):
        self.sendMessage(b"pong: " + payload, True)


class Visitor(WebSocketClientProtocol):
    def __init__(self):
        super().__init__()
        self.opened, self.closed, self.messages, self.pongs = asyncio.Event(), asyncio.Event(), asyncio.Queue(), asyncio.Queue()

    def onOpen(self):
        self.opened.set()

    def onMessage(self, payload, isBinary):
        self.messages.put_nowait((payload, isBinary))

    def onPong(self, payload):
        self.pongs.put_nowait(payload)

    def onClose(self, wasClean, code, reason):
        self.close_code = code
        self.was_clean = wasClean
        self.closed.set()


async def within(waited):
    return await asyncio.wait_for(waited, PATIENCE_SECONDS)


async def visitor(port, host):
    factory = WebSocketClientFactory(f"ws://{host}:{port}/")
    factory.protocol = Visitor
    _, protocol = await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", port)
    await within(protocol.opened.wait())
    return protocol


async def echoes(one, payload, binary):
    got = await within(one.messages.get())
    assert got == (payload, binary), f"{len(payload)} bytes came back as {len(got[0])}"


async def visit(port, host):
    one = await visitor(port, host)
    for binary in (False, True):
        for size in SIZES:
            payload = (os.urandom(size) if binary else b"x" * size)
            one.sendMessage(payload, binary)
            await echoes(one, payload, binary)
            print(f"ok {'binary' if binary else 'text'} of {size} bytes")
    for count in FRAGMENTS:
        one.beginMessage(isBinary=True)
        for _ in range(count):
            one.sendMessageFrame(b"abc")
        one.endMessage()
        await echoes(one, b"abc" * count, True)
        print(f"ok a message in {count} frames")
    for size in (0, 1, 125):
        one.sendPing(b"p" * size)
        assert await within(one.pongs.get()) == b"p" * size
        print(f"ok a ping of {size} bytes")
    one.sendMessage(b"ping me", True)
    await echoes(one, b"pong: from the target", True)
    print("ok a ping of the target's")
    for i in range(200):
        one.sendMessage(b"%d" % i, True)
    for i in range(200):
        await echoes(one, b"%d" % i, True)
    print("ok 200 messages sent without waiting")
    one.sendClose(1000, "done")
    await within(one.closed.wait())
    assert one.was_clean and one.close_code == 1000
    print("ok closed by the visitor with 1000")
    for code in (1000, 3000, 4999):
        one = await visitor(port, host)
        one.sendMessage(b"close %d" % code, True)
        await within(one.closed.wait())
        assert one.was_clean and one.close_code == code, one.close_code
        print(f"ok closed by the target with {code}")
    many = [await visitor(port, host) for _ in range(20)]
    for i, each in enumerate(many):
        each.sendMessage(b"%d" % i, True)
    for i, each in enumerate(many):
        await echoes(each, b"%d" % i, True)
    print("ok 20 visitors at once")


async def serve(port):
    factory = WebSocketServerFactory()
    factory.protocol = Echo
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[2])) if sys.argv[1] == "serve" else visit(int(sys.argv[2]), sys.argv[3]))
