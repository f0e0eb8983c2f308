"""A small HTTP server on loopback that misbehaves as it is told, and archives to serve."""

import io
import lzma
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from anomaly_cli.evaluation.reports.published import TABLE_2

MVTEC_FILES = {
    **{f"{category}/train/good/000.png": b"normal" for category in TABLE_2},
    "bottle/test/broken/000.png": b"broken",
    "bottle/ground_truth/broken/000_mask.png": b"mask",
    "license.txt": b"CC BY-NC-SA 4.0",
}


class Seen(NamedTuple):
    """What a request asked for."""

    path: str
    range: str | None
    if_range: str | None


class FileServer(ThreadingHTTPServer):
    """Serves `files`, and remembers what it was asked."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = dict(files)
        self.seen: list[Seen] = []
        self.has_ranges = True
        self.etag: str | None = '"1"'
        self.date: str | None = None
        self.has_length = True
        self.shift = 0  # of the ranges that are answered, in bytes
        self.is_confused = False  # answers a range where none was asked for
        self.statuses: list[int] = []  # of the next answers, instead of the file
        self.cuts: list[int] = []  # bytes of body after which the next answers break off
        self.stall: threading.Event | None = None  # what a broken answer waits for

    def url(self, name: str) -> str:
        """Give the address of a file."""
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.seen.append(Seen(self.path, asked, self.headers.get("If-Range")))
        content = server.files.get(self.path.lstrip("/"))
        if server.statuses or content is None:
            self.send_error(server.statuses.pop(0) if server.statuses else 404)
            return
        is_same = self.headers.get("If-Range") in {None, server.etag, server.date}
        start = 0
        if server.has_ranges and asked and is_same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(content, start)

    def _send(self, content: bytes, start: int) -> None:
        server = self.server
        is_partial = bool(start or server.is_confused)
        self.send_response(206 if is_partial else 200)
        if is_partial:
            first = start + server.shift
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.date:
            self.send_header("Last-Modified", server.date)
        if server.has_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if server.cuts:
            body = body[: server.cuts.pop(0)]
        self.wfile.write(body)
        self.wfile.flush()
        if server.stall and len(body) < len(content) - start:
            server.stall.wait(10)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve(files: Mapping[str, bytes]) -> Iterator[FileServer]:
    """Run a server in a thread while the block runs."""
    with FileServer(files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            if server.stall:
                server.stall.set()
            server.shutdown()
            thread.join()


def make_tar(files: Mapping[str, bytes], *members: tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    """Make a tar of `files`, then of `members` without content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return stream.getvalue()


def make_mvtec() -> bytes:
    """Make a small MVTec AD archive that does not shrink, of about 300 kB."""
    noise = lzma.compress(bytes(range(256)) * 8)
    return make_tar({**MVTEC_FILES, "bottle/train/good/001.png": noise * 2000}, mode="w")
