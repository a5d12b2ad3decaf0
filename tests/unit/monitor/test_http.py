"""The request parser and the answers of the metrics port: what is read, what is refused, and that nothing
else is."""

from http import HTTPStatus
from http.client import HTTPMessage, parse_headers
from io import BytesIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastinetd.monitor.http import (
    HEAD_LIMIT,
    Answer,
    BadRequest,
    accepts_gzip,
    encode_answer,
    parse_head,
    plain_answer,
    take_head,
)

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
TOKENS = st.text("!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=20)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def request(*lines: str, first: str = "GET / HTTP/1.1") -> bytes:
    return "".join(f"{line}\r\n" for line in (first, *lines, "")).encode("latin-1")


def refused(head: bytes) -> HTTPStatus:
    with pytest.raises(BadRequest) as told:
        parse_head(head)
    return told.value.status


# ---- taking a head out of what was received ----


def test_a_head_is_taken_once_it_is_complete() -> None:
    received = bytearray()
    for byte in request("Host: x"):
        assert take_head(received) is None
        received.append(byte)
    assert take_head(received) == request("Host: x")
    assert received == b""
    assert take_head(received) is None


def test_what_follows_a_head_stays() -> None:
    received = bytearray(b"\r\n\n" + request("Host: x") + b"GET /next")
    assert take_head(received) == request("Host: x")
    assert received == b"GET /next"


def test_lines_may_end_without_carriage_return() -> None:
    head = take_head(bytearray(b"GET /a HTTP/1.1\nHost: x\n\n"))
    assert head is not None
    assert parse_head(head).path == "/a"


@pytest.mark.parametrize("ending", [b"", b"\r\n\r\n"])
def test_a_head_may_have_the_limit_and_no_more(ending: bytes) -> None:
    whole = b"GET / HTTP/1.1\r\nX: " + b"y" * HEAD_LIMIT
    received = bytearray(whole[: HEAD_LIMIT - 4] + b"\r\n\r\n")
    assert len(take_head(received) or b"") == HEAD_LIMIT
    with pytest.raises(BadRequest) as told:
        take_head(bytearray(whole[: HEAD_LIMIT - 3] + b"zzz" + ending))
    assert told.value.status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


PIECES = st.binary(max_size=100) | st.sampled_from([b"\r\n", b"\n", b"\r\n\r\n", request("Host: x")])


@given(st.lists(PIECES, max_size=20))
def test_pieces_give_the_same_heads_as_the_whole(pieces: list[bytes]) -> None:
    def taken(parts: list[bytes]) -> list[bytes]:
        received, heads = bytearray(), []
        for part in parts:
            received += part
            while head := take_head(received):
                heads.append(head)
        return heads

    assert taken(pieces) == taken([b"".join(pieces)])


# ---- reading a head ----


def test_a_request_is_read() -> None:
    read = parse_head(request("Host: example.net", "ACCEPT: text/plain", "X-Empty:", "x-spaces: \t a b \t"))
    assert (read.method, read.path, read.keep_alive) == ("GET", "/", True)
    assert read.headers == {"host": "example.net", "accept": "text/plain", "x-empty": "", "x-spaces": "a b"}


def test_repeated_headers_are_one_list() -> None:
    assert parse_head(request("Host: x", "Accept: a", "accept: b")).headers["accept"] == "a, b"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/metrics", "/metrics"),
        ("/metrics?name[]=x&y", "/metrics"),
        ("/metrics#part", "/metrics"),
        ("http://host:9100/metrics?x", "/metrics"),
        ("HTTPS://host/metrics", "/metrics"),
        ("http://host", "/"),
        ("http://host?x=/metrics", "/"),
        ("//metrics", "//metrics"),
        ("*", "*"),
    ],
)
def test_paths(target: str, path: str) -> None:
    assert parse_head(request("Host: x", first=f"GET {target} HTTP/1.1")).path == path


@pytest.mark.parametrize(
    ("version", "lines", "stays"),
    [
        ("1.1", ["Host: x"], True),
        ("1.1", ["Host: x", "Connection: close"], False),
        ("1.1", ["Host: x", "Connection: upgrade, Close"], False),
        ("1.1", ["Host: x", "Content-Length: 0"], True),
        ("1.1", ["Host: x", "Content-Length: 5"], False),
        ("1.1", ["Host: x", "Content-Length: x"], False),
        ("1.1", ["Host: x", "Content-Length: 0", "Content-Length: 7"], False),
        ("1.1", ["Host: x", "Transfer-Encoding: chunked"], False),
        ("1.0", [], False),
        ("1.0", ["Connection: Keep-Alive"], True),
        ("1.0", ["Connection: keep-alive", "Content-Length: 1"], False),
        ("1.7", ["Host: x"], True),
    ],
)
def test_whether_the_connection_stays(version: str, lines: list[str], stays: bool) -> None:
    assert parse_head(request(*lines, first=f"GET / HTTP/{version}")).keep_alive is stays


@pytest.mark.parametrize(
    "first",
    ["", "GET", "GET /", "GET / ", " GET / HTTP/1.1", "GET / HTTP/1.1 ", "GET\t/ HTTP/1.1", "GET / http/1.1",
     "G(T / HTTP/1.1", "GET /\x7f HTTP/1.1", "GET /\xe9 HTTP/1.1", "GET / x HTTP/1.1", "GET / HTTP/1.",
     "GET / HTTP/1.11"],
)  # fmt: skip
def test_bad_request_lines(first: str) -> None:
    assert refused(request("Host: x", first=first)) == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    "line",
    ["no colon", " folded: x", "\tfolded", "space : x", ": x", "nul: a\0b", "cr: a\rb", "del: \x7f", "b\xe9d: x"],
)
def test_bad_header_lines(line: str) -> None:
    assert refused(request("Host: x", line)) == HTTPStatus.BAD_REQUEST


def test_host_is_asked_for_once() -> None:
    assert refused(request()) == HTTPStatus.BAD_REQUEST
    assert refused(request("Host: x", "host: y")) == HTTPStatus.BAD_REQUEST
    assert parse_head(request(first="GET / HTTP/1.0")).headers == {}


@pytest.mark.parametrize("version", ["0.9", "2.0", "3.0"])
def test_other_versions(version: str) -> None:
    assert refused(request("Host: x", first=f"GET / HTTP/{version}")) == HTTPStatus.HTTP_VERSION_NOT_SUPPORTED


@given(st.binary(max_size=300))
@example(b"")
@example(b"\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n")
def test_any_bytes_are_a_request_or_a_bad_one(data: bytes) -> None:
    try:
        read = parse_head(data)
    except BadRequest as told:
        assert 400 <= told.status < 600
    else:
        assert read.method
        assert read.path


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_within_a_request(target: bytes, name: bytes, value: bytes) -> None:
    try:
        read = parse_head(b"GET /%b HTTP/1.1\r\nHost: x\r\n%b: %b\r\n\r\n" % (target, name, value))
    except BadRequest:
        return
    assert not any(ord(c) < 32 and c != "\t" for text in read.headers.values() for c in text)
    accepts_gzip(read.headers.get("accept-encoding", ""))


@given(TOKENS, st.text("abc/.-_%~", max_size=30), st.dictionaries(TOKENS.map(str.lower), VALUES, max_size=8))
def test_good_requests_are_read_as_the_standard_library_reads_them(
    method: str, path: str, headers: dict[str, str]
) -> None:
    headers["host"] = "x"
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = request(*lines, first=f"{method} /{path} HTTP/1.1")
    read = parse_head(head)
    assert (read.method, read.path) == (method, f"/{path}")
    assert read.headers == headers
    stream = BytesIO(head)
    stream.readline()
    known: HTTPMessage = parse_headers(stream)
    assert {name.lower(): value for name, value in known.items()} == read.headers


# ---- answers ----


def test_an_answer_on_the_wire() -> None:
    answer = Answer(HTTPStatus.OK, b"body", headers={"Vary": "Accept"})
    head, _, body = encode_answer(answer, date=DATE, with_body=True, keep_alive=True).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        f"Date: {DATE}".encode(),
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: 4",
        b"Vary: Accept",
        b"Connection: keep-alive",
    ]
    assert body == b"body"


def test_an_answer_without_body_keeps_its_length() -> None:
    data = encode_answer(plain_answer(HTTPStatus.NOT_FOUND), date=DATE, with_body=False, keep_alive=False)
    assert data.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"\r\nContent-Length: 10\r\n" in data
    assert data.endswith(b"\r\nConnection: close\r\n\r\n")


def test_a_plain_answer() -> None:
    assert plain_answer(HTTPStatus.OK, "ready").body == b"ready\n"
    assert plain_answer(HTTPStatus.METHOD_NOT_ALLOWED, Retry_After="5").headers == {"Retry-After": "5"}


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.1", True),
        ("gzip; q=1.0", True),
        ("", False),
        ("identity", False),
        ("*", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("br, gzip;q=0, gzip", False),
        ("x-gzip", False),
    ],
)
def test_gzip(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted
