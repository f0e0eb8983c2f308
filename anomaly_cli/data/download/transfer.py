"""Download of one file over HTTP that resumes, retries, and falls back on mirrors.

The received bytes lie in `<name>.part`. Beside it, `<name>.part.version` contains the ETag or date
by which the server identifies the file, so that two versions of it are never joined. torchvision's
`download_url` is not used, because it starts from zero after every interruption.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from anomaly_cli.errors import DataError, OutputError
from anomaly_cli.files.numbers import size_text

TIMEOUT = 30.0  # seconds without a byte
WAITS = (1.0, 2.0, 4.0)  # seconds before each retry; the first again once more bytes have come
_CHUNK = 1 << 18  # bytes
_PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}

Reserve = Callable[[int, int], None]  # bytes to come, bytes of the file; raises if too many


class Progress(NamedTuple):
    """Progress of a download."""

    received: int  # bytes on disk
    total: int | None = None  # bytes of the file, if known
    note: str = ""  # message for the user


class _BrokenError(Exception):
    """Failure of the connection that may be temporary."""


class _SafeRedirects(HTTPRedirectHandler):
    """Redirects that stay on https once they are there."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if req.type == "https" and not newurl.lower().startswith("https:"):
            raise DataError(
                f"cannot fetch {req.full_url}: it is redirected to {newurl}, which is not https"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Answer(NamedTuple):
    """A response whose headers were read."""

    response: HTTPResponse
    start: int  # byte of the file at which the body begins
    total: int | None
    version: str


def fetch(
    urls: tuple[str, ...], part: Path, *, reserve: Reserve, largest: int
) -> Generator[Progress, None, None]:
    """Download the file from the first of `urls` that has it, and yield progress as bytes arrive.

    Args:
        urls: mirrors of one file.
        part: file for the bytes; those already there are kept if the server can resume.
        reserve: called before the first byte of a response whose length is known.
        largest: bytes that the file has at most; a server that sends more is given up.

    Raises:
        DataError: no mirror has the file, or the connection fails repeatedly; `part` stays.
        OutputError: `part` cannot be written.
    """
    *others, last = urls
    for url, following in zip(others, urls[1:], strict=True):
        try:
            yield from _fetch_url(url, part, reserve, largest)
        except DataError as error:
            yield Progress(_size(part), note=f"{error}; trying {following}")
        else:
            return
    yield from _fetch_url(last, part, reserve, largest)


def is_resumable(part: Path) -> bool:
    """Check whether a later command can resume the download."""
    return bool(_size(part) and _read_version(part))


def keeping_note(part: Path) -> str:
    """State in words that the received bytes are kept after an interruption."""
    return f"{part} is kept, and the same command goes on from there"


def discard(part: Path) -> None:
    """Remove the received bytes, so that no download resumes from them."""
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def release(part: Path, destination: Path) -> None:
    """Rename a complete file to its final name."""
    part.replace(destination)
    _version_file(part).unlink(missing_ok=True)


def _fetch_url(url: str, part: Path, reserve: Reserve, largest: int) -> Iterator[Progress]:
    most = _size(part)
    waits = iter(WAITS)
    while True:
        try:
            yield from _attempt(url, part, reserve, largest)
        except _BrokenError as error:
            reason = str(error)
        else:
            return
        # A server that cannot resume and always breaks at one place makes no progress.
        if _size(part) > most:
            most, waits = _size(part), iter(WAITS)
        wait = next(waits, None)
        if wait is None:
            kept = f"; {keeping_note(part)}" if is_resumable(part) else ""
            raise DataError(f"cannot fetch {url}: {reason}{kept}")
        yield Progress(_size(part), note=f"{url}: {reason}; trying again in {wait:g} s")
        time.sleep(wait)


def _attempt(url: str, part: Path, reserve: Reserve, largest: int) -> Iterator[Progress]:
    """Download the missing bytes; restart at byte 0 if the server has another version now."""
    offset, version = _size(part), _read_version(part)
    answer = _ask(url, offset if version else 0, version)
    if answer is None:  # the file is complete
        reserve(0, offset)
        yield Progress(offset, offset)
        return
    if answer.start != offset:
        reason = "the server cannot resume, or has another version now"
        yield Progress(0, answer.total, note=f"{url}: {reason}; starting again")
    with answer.response:
        if answer.total is not None:
            _refuse_larger(url, part, answer.total, largest)
            reserve(answer.total - answer.start, answer.total)
        for progress in _receive(answer, part):
            _refuse_larger(url, part, progress.received, largest)
            yield progress


def _ask(url: str, offset: int, version: str) -> _Answer | None:
    """Open `url` at byte `offset`; return None if the file ends there.

    Raises:
        DataError: the server refuses permanently.
        _BrokenError: the server may answer later.
    """
    headers = {"User-Agent": "anomaly-cli", "Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": version}
    request = Request(url, headers=headers)  # noqa: S310 - http or https, as the settings ensure
    try:
        response = cast("HTTPResponse", build_opener(_SafeRedirects).open(request, timeout=TIMEOUT))
    except HTTPError as error:
        with error:
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
                is_whole = error.headers.get("Content-Range") == f"bytes */{offset}"
                return None if is_whole else _ask(url, 0, "")
            if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in _PASSING:
                raise _BrokenError(_status(error)) from error
            raise DataError(
                f"cannot fetch {url}: {_status(error)}; give another address with --url"
            ) from error
    # These include URLError, timeouts, and responses that are not HTTP.
    except (OSError, HTTPException, ValueError) as error:
        raise _BrokenError(_reason(error)) from error
    return _read_headers(url, response, offset)


def _read_headers(url: str, response: HTTPResponse, offset: int) -> _Answer | None:
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    etag = response.headers.get("ETag", "")
    # A weak ETag may not be sent with If-Range (RFC 9110, 13.1.5).
    is_strong = etag.startswith('"')
    version = etag if is_strong else response.headers.get("Last-Modified", "")
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return _Answer(response, 0, total, version)
    span, _, whole = response.headers.get("Content-Range", "").partition("/")
    if not span.startswith(f"bytes {offset}-"):
        response.close()
        if not offset:
            raise _BrokenError("the server answered a range that was not asked for")
        return _ask(url, 0, "")
    return _Answer(response, offset, int(whole) if whole.isdecimal() else None, version)


def _refuse_larger(url: str, part: Path, size: int, largest: int) -> None:
    if size > largest:
        discard(part)
        raise DataError(
            f"cannot fetch {url}: it sends more than {size_text(largest)}, "
            f"which the file cannot have"
        )


def _receive(answer: _Answer, part: Path) -> Iterator[Progress]:
    received = answer.start
    with _writing(part):
        if not received:
            discard(part)
        with part.open("ab") as stream:
            _version_file(part).write_text(answer.version, encoding="utf-8")
            yield Progress(received, answer.total)
            for chunk in _read_chunks(answer.response):
                stream.write(chunk)
                received += len(chunk)
                yield Progress(received, answer.total)
    if answer.total is not None and received < answer.total:
        raise _BrokenError(f"the connection ended after {received:,} of {answer.total:,} bytes")


def _read_chunks(response: HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read1(_CHUNK):
            yield chunk
    except (OSError, HTTPException, ValueError) as error:
        raise _BrokenError(_reason(error)) from error


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {part}: {error.strerror or error}") from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _read_version(part: Path) -> str:
    path = _version_file(part)
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _status(error: HTTPError) -> str:
    return f"HTTP {error.code} {error.reason}".strip()


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)
