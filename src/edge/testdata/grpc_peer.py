"""gRPC as others wrote it (python3-grpcio), for http2_upstream_test.cc: serve PORT-FILE, call PORT, or error PORT HOST; and
for tests/test_http2_services.py: listen PORT in a task, the rest as a module.

Messages are plain bytes, so that nothing needs to be generated.
"""
import pathlib
import signal
import sys
import threading
from concurrent import futures

import grpc


class Methods(grpc.GenericRpcHandler):
    def service(self, call):
        return {
            "/t/Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "/t/Count": grpc.unary_stream_rpc_method_handler(self.count),
            "/t/Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "/t/Talk": grpc.stream_stream_rpc_method_handler(self.talk),
            "/t/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/t/Hang": grpc.unary_unary_rpc_method_handler(self.hang),
        }.get(call.method)

    def echo(self, request, context):
        context.set_trailing_metadata((("x-trailer", "kept"), ("x-asked", dict(context.invocation_metadata()).get("x-ask", ""))))
        return request

    def count(self, request, context):
        for i in range(int(request)):
            yield str(i).encode()

    def sum(self, requests, context):
        return str(sum(len(request) for request in requests)).encode()

    def talk(self, requests, context):
        for request in requests:
            yield b"said " + request

    def fail(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: caf\u00e9")

    def hang(self, request, context):
        done = threading.Event()
        context.add_callback(done.set)
        done.wait(20)
        return b""


def started(address):
    server = grpc.server(futures.ThreadPoolExecutor(32), handlers=(Methods(),))
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def listen(port):
    """Until it is told to end; calls that run have ten seconds then."""
    server, _ = started(f"0.0.0.0:{port}")
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())
    end.wait()
    server.stop(10).wait()


def serve(file):
    server, port = started("127.0.0.1:0")
    path = pathlib.Path(file)
    path.with_suffix(".new").write_text(str(port))
    path.with_suffix(".new").rename(path)
    sys.stdin.read()  # until whoever started it ends
    server.stop(None)


def error_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("no error")


def channel_to(port, host, authority=None):
    """authority: PEM; by TLS then, as a client that takes nothing but HTTP/2 by ALPN."""
    options = [("grpc.default_authority", host), ("grpc.max_receive_message_length", -1)]
    if not authority:
        return grpc.insecure_channel(f"127.0.0.1:{port}", options)
    options.append(("grpc.ssl_target_name_override", host))
    return grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(authority), options)


def check_calls(channel):
    """All four kinds, large ones, trailers, errors, deadlines, a hundred at once; answers how many were made."""
    echo = channel.unary_unary("/t/Echo")
    answer, said = echo.with_call(b"hello", metadata=(("x-ask", "1"),), timeout=20)
    assert answer == b"hello", answer
    assert dict(said.trailing_metadata()) == {"x-trailer": "kept", "x-asked": "1"}, said.trailing_metadata()
    large = bytes(3_000_000)
    assert echo(large, timeout=20) == large
    assert [*channel.unary_stream("/t/Count")(b"5000", timeout=20)][-1] == b"4999"
    pieces = (bytes(10_000) for _ in range(200))
    assert channel.stream_unary("/t/Sum")(pieces, timeout=20) == b"2000000"
    talk(channel, [b"one", b"two", b"three"])
    error = error_of(lambda: channel.unary_unary("/t/Fail")(b"", timeout=20))
    assert error.code() == grpc.StatusCode.NOT_FOUND and error.details() == "no such thing: caf\u00e9", error
    error = error_of(lambda: channel.unary_unary("/t/None")(b"", timeout=20))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
    error = error_of(lambda: channel.unary_unary("/t/Hang")(b"", timeout=0.2))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    for _ in range(20):
        calls = [echo.future(str(i).encode(), timeout=20) for i in range(100)]
        assert [each.result() for each in calls] == [str(i).encode() for i in range(100)]
    return 8 + 20 * 100


def talk(channel, words):
    """Each word is answered before the next is sent."""
    heard = threading.Semaphore(1)

    def say():
        for word in words:
            assert heard.acquire(timeout=20)
            yield word
    answers = []
    for answer in channel.stream_stream("/t/Talk")(say(), timeout=20):
        answers.append(answer)
        heard.release()
    assert answers == [b"said " + word for word in words], answers


def call(port):
    with channel_to(port, "test.local") as channel:
        print(f"{check_calls(channel)} calls", end="")


def unreachable(port, host):
    """The code of a call that the edge itself answers."""
    with channel_to(port, host) as channel:
        print(error_of(lambda: channel.unary_unary("/t/Hang")(b"", timeout=20)).code().name, end="")


if __name__ == "__main__":
    {"serve": serve, "listen": listen, "call": call, "error": unreachable}[sys.argv[1]](*sys.argv[2:])
