"""HTTP/1.1 for the metrics port: bytes in, a Request out; an answer in, bytes out. No sockets, no clock.

Rules of this file
 - Bytes of a client either become a Request or raise BadRequest: `parse_head` does nothing else.
 - No answer contains anything that a client has sent.
 - A request with a body is answered and ends its connection: the body is never read (RFC 9112, section 9.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

HEAD_LIMIT = 8192  # bytes of a request's line and headers, and of further requests sent ahead

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%b) ([!-~]+) HTTP/([0-9])\.([0-9])" % _TOKEN)
_HEADER_LINE = re.compile(rb"(%b):([\t -~\x80-\xff]*)" % _TOKEN)
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


class BadRequest(Exception):
    """Raised for a request that cannot be read; `status` is that of the answer."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. Header names are in lower case; the `?` between `path` and `query` is in neither."""

    method: str
    path: str
    headers: Mapping[str, str]
    keep_alive: bool
    query: str = ""
    is_last: bool = False
    """The client says that it sends nothing more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a client; `headers` are those besides the ones that every answer has."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


def plain_answer(status: HTTPStatus, text: str = "", **headers: str) -> Answer:
    """An answer of plain text, by default the phrase of its status; a `_` in a header's name becomes a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, f"{text or status.phrase}\n".encode(), headers=named)


def take_head(received: bytearray) -> bytes | None:
    """Remove the first head, with the empty line at its end, from `received`; None while it is incomplete.

    Empty lines before it are dropped (RFC 9112, section 2.2). Raises BadRequest for a head above HEAD_LIMIT.
    """
    blank = len(received) - len(received.lstrip(b"\r\n"))
    if blank:
        del received[:blank]
    end = _HEAD_END.search(received, 0, HEAD_LIMIT)
    if end is None:
        if len(received) >= HEAD_LIMIT:
            raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        return None
    head = bytes(received[: end.end()])
    del received[: end.end()]
    return head


def parse_head(head: bytes) -> Request:
    """The request with a head that take_head has returned. Raises BadRequest."""
    lines = [line.removesuffix(b"\r") for line in head.rstrip(b"\r\n").split(b"\n")]
    first = _REQUEST_LINE.fullmatch(lines[0])
    if first is None:
        raise BadRequest(HTTPStatus.BAD_REQUEST)
    method, target, major, minor = first.groups()
    if major != b"1":
        raise BadRequest(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        found = _HEADER_LINE.fullmatch(line)
        if found is None:
            raise BadRequest(HTTPStatus.BAD_REQUEST)
        name, value = found[1].decode("latin-1").lower(), found[2].strip(b" \t").decode("latin-1")
        if name == "host" and name in headers:
            raise BadRequest(HTTPStatus.BAD_REQUEST)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    old = minor == b"0"
    if not old and "host" not in headers:
        raise BadRequest(HTTPStatus.BAD_REQUEST)
    path, query = split_target(target.decode("latin-1"))
    body, closes = has_body(headers), asks_to_close(headers, old=old)
    return Request(method.decode("latin-1"), path, headers, not body and not closes, query, closes and not body)


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a request target in origin or absolute form (RFC 9112, section 3.2)."""
    absolute = _ORIGIN.match(target)
    path, _, query = (target[absolute.end() :] if absolute else target).partition("#")[0].partition("?")
    return path or "/", query


def has_body(headers: Mapping[str, str]) -> bool:
    """Whether a body follows the head of a request with these headers."""
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def asks_to_close(headers: Mapping[str, str], *, old: bool) -> bool:
    """Whether the client wants the connection closed after the answer; `old` is HTTP/1.0."""
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    return "close" in options or (old and "keep-alive" not in options)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip (RFC 9110, section 12.5.3)."""
    for choice in accept_encoding.lower().split(","):
        name, *parameters = (part.strip() for part in choice.split(";"))
        if name == "gzip":
            return not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return False


def encode_answer(answer: Answer, *, date: str, with_body: bool, keep_alive: bool) -> bytes:
    """The bytes of an answer; `date` is now (RFC 9110, section 5.6.7), `with_body` is false for HEAD."""
    lines = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Date: {date}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
    return head + answer.body if with_body else head
