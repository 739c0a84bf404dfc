"""A loopback HTTP server for the tests of `stream/intake`, honest and otherwise."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = b"a picture" * 1000
BYTES_MAX = 20_000
HOST = "pictures.test"
XML = "<?xml version='1.0'?><Error><Code>{}</Code></Error>"
DRIP_S = 0.02


class Handler(BaseHTTPRequestHandler):
    """Answers by the last part of the path: a status with an optional S3 code (`403-AccessDenied`), or a mischief."""

    def do_GET(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        server.paths.append(self.path)
        name = self.path.partition("?")[0].rsplit("/", 1)[-1]
        mischief = getattr(self, f"send_{name.replace('-', '_')}", None)
        try:
            if mischief is not None:
                mischief()
            elif name[:3].isdigit():
                self.answer(int(name[:3]), XML.format(name[4:]).encode(), Location=server.location)
            else:
                self.answer(200, CONTENT)
        except OSError:
            self.close_connection = True

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content_Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_gzip(self) -> None:
        self.answer(200, CONTENT, Content_Encoding="gzip")

    def send_large(self) -> None:
        self.answer(200, bytes(BYTES_MAX + 1))

    def send_announced(self) -> None:
        self.answer(200, b"", Content_Length=str(BYTES_MAX + 1))

    def send_endless(self) -> None:
        self.answer(200, b"", Content_Length="")
        while True:
            self.wfile.write(bytes(1 << 16))

    def send_chunked(self) -> None:
        self.protocol_version = "HTTP/1.1"
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(CONTENT))
        self.wfile.write(CONTENT + b"\r\n0\r\n\r\n")

    def send_chunk_minus_one(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
        while True:
            self.wfile.write(bytes(1 << 16))

    def send_cut(self) -> None:
        self.answer(200, CONTENT, Content_Length=str(len(CONTENT) + 1))

    def send_nonsense(self) -> None:
        self.wfile.write(b"hunter2 is no status line\r\n\r\n")

    def send_drip(self) -> None:
        self.answer(200, b"", Content_Length="10000")
        self.drip(b"x")

    def send_header_drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        self.drip(b"x")

    def drip(self, byte: bytes) -> None:
        stop = self.server.stop  # type: ignore[attr-defined]
        while not stop.wait(DRIP_S):
            self.wfile.write(byte)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A loopback server that remembers what it was asked for; its redirects lead to `location`."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: list[str] = []
        self.location = f"https://{HOST}/other"
        self.stop = threading.Event()
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are the point of some tests."""

    def close(self) -> None:
        self.stop.set()
        self.shutdown()
        self.server_close()
