"""/livez, /readyz and /metrics.

Live: the loops turn. Ready: every condition that the stages announced holds; /readyz names those
that do not, one a line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from stream.config import HealthSettings
from stream.errors import SettingError
from stream.metrics import Metrics


class Health:
    """What the stages say about themselves. Thread-safe."""

    def __init__(self, loop_stall_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop_stall_s = loop_stall_s
        self._clock = clock
        self._lock = threading.Lock()
        self._beats: dict[str, float] = {}
        self._missing: dict[str, str] = {}
        self._allowed_s: dict[str, float] = {}

    def beat(self, loop: str) -> None:
        """This loop has turned."""
        with self._lock:
            self._beats[loop] = self._clock()

    @contextmanager
    def busy(self, loop: str, most_s: float) -> Iterator[None]:
        """This loop does one long thing and does not turn: it is stalled only when that takes longer than `most_s`."""
        self.beat(loop)
        with self._lock:
            self._allowed_s[loop] = most_s
        try:
            yield
        finally:
            self.beat(loop)
            with self._lock:
                del self._allowed_s[loop]

    def ended(self, loop: str) -> None:
        """This loop has ended on purpose."""
        with self._lock:
            self._beats.pop(loop, None)

    def unready(self, condition: str, why: str) -> None:
        with self._lock:
            self._missing[condition] = why

    def ready(self, condition: str) -> None:
        with self._lock:
            self._missing.pop(condition, None)

    def stalled(self) -> list[str]:
        """Loops that have not turned for too long."""
        now = self._clock()
        with self._lock:
            allowed_s = {loop: self._allowed_s.get(loop, self._loop_stall_s) for loop in self._beats}
            return [loop for loop, beat in self._beats.items() if now - beat > allowed_s[loop]]

    def missing(self) -> dict[str, str]:
        """Conditions that do not hold, and why."""
        with self._lock:
            return dict(self._missing)


class HealthServer:
    """Serves a `Health` and `Metrics` over HTTP until it is closed."""

    def __init__(self, settings: HealthSettings, health: Health, metrics: Metrics) -> None:
        handler = _handler(health, metrics)
        try:
            self._server = ThreadingHTTPServer((settings.host, settings.port), handler)
        except OSError as error:
            raise SettingError(
                f"health.host {settings.host} health.port {settings.port}: {error.strerror}; name another port (0: any)"
            ) from error
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(health: Health, metrics: Metrics) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if self.path == "/livez":
                stalled = health.stalled()
                self._answer(503 if stalled else 200, "".join(f"{loop} stalled\n" for loop in stalled) or "ok\n")
            elif self.path == "/readyz":
                missing = health.missing()
                metrics.ready.set(not missing)
                lines = "".join(f"{condition}: {why}\n" for condition, why in missing.items())
                self._answer(503 if missing else 200, lines or "ok\n")
            elif self.path == "/metrics":
                metrics.ready.set(not health.missing())
                self._answer(200, generate_latest(metrics.registry).decode(), CONTENT_TYPE_LATEST)
            else:
                self._answer(404, "try /livez, /readyz or /metrics\n")

        def _answer(self, status: int, text: str, content_type: str = "text/plain; charset=utf-8") -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Probes are not worth a log line."""

    return Handler
