"""/live, /ready and /metrics, served from a thread of their own: a stuck event loop cannot claim to be alive."""

import asyncio
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

LOOP_SILENCE_MAX_S = 10.0
PULSE_S = 1.0


class Health:
    """What this process says of itself."""

    def __init__(self) -> None:
        self.ready = False
        self._pulse = time.monotonic()

    @property
    def alive(self) -> bool:
        return time.monotonic() - self._pulse < LOOP_SILENCE_MAX_S

    async def beat(self) -> None:
        while True:
            self._pulse = time.monotonic()
            await asyncio.sleep(PULSE_S)

    def answer(self, path: str) -> tuple[int, str, bytes]:
        match path:
            case "/live":
                return (200, "text/plain", b"alive\n") if self.alive else (503, "text/plain", b"event loop is stuck\n")
            case "/ready":
                return (200, "text/plain", b"ready\n") if self.ready else (503, "text/plain", b"not ready\n")
            case "/metrics":
                return 200, CONTENT_TYPE_LATEST, generate_latest()
            case _:
                return 404, "text/plain", b"try /live, /ready or /metrics\n"


def serve_health(health: Health, listen: str) -> ThreadingHTTPServer:
    """Starts serving; returns the server, whose `server_address` has the port."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content_type, body = health.answer(self.path.split("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    host, _, port = listen.rpartition(":")
    server = ThreadingHTTPServer((host or "127.0.0.1", int(port)), Answers)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
