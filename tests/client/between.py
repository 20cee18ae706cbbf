"""A real gRPC server that stands between a client and Triton: it passes calls on as they are, or fails some first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from tritonclient.grpc import service_pb2

INFER = "/inference.GRPCInferenceService/ModelInfer"


class Between(grpc.GenericRpcHandler):  # type: ignore[misc]
    """`failures` are the statuses that the next calls of ModelInfer fail with, each taken once."""

    def __init__(self, target: str) -> None:
        self.address = ""
        self.failures: list[tuple[grpc.StatusCode, str]] = []
        self.calls: Counter[str] = Counter()
        self.request_ids: list[str] = []
        self._channel = grpc.insecure_channel(target)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._forward(details.method))

    def _forward(self, method: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def forward(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.calls[method] += 1
            if method == INFER:
                self.request_ids.append(service_pb2.ModelInferRequest.FromString(request).id)
                if self.failures:
                    context.abort(*self.failures.pop(0))
            try:
                return bytes(self._channel.unary_unary(method)(request, timeout=60))
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
                raise

        return forward

    def close(self) -> None:
        self._channel.close()


@contextmanager
def between(target: str, credentials: grpc.ServerCredentials | None = None) -> Iterator[Between]:
    """Passes calls on to `target` while the block runs; with credentials over TLS only."""
    handler = Between(target)
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(8), handlers=[handler], options=limits)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    handler.address = f"127.0.0.1:{port}"
    try:
        yield handler
    finally:
        server.stop(None).wait()
        handler.close()
