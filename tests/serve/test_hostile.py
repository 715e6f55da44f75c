"""Hostile requests, as bytes on a socket: each is refused with a 4xx, reads no file, calls no address, blocks nothing.

`@CANARY@` stands for a file of the test, `@TRAP@` for a listening port of the test, `@PNG@` for a readable image.
"""

from __future__ import annotations

import base64
import binascii
import json
import socket
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
import uvicorn

from opsin.api.deployment import service_of
from opsin.io.images import encode_png
from opsin.runs import Run
from opsin.server.app import make_app
from opsin.server.limits import Limits
from opsin.server.running import settings_of

SECRET = "the canary sings"
MAX_BYTES = 200_000
TIMEOUT_S = 5.0
TRAVERSALS = (
    "/etc/passwd",
    "//etc/passwd",
    "@CANARY@",
    "../../../../../../etc/passwd",
    "../../../../../..@CANARY@",
    "....//....//....//etc/passwd",
    "..;/..;/..;/etc/passwd",
    "..\\..\\..\\..\\windows\\win.ini",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%252f..%252f..%252fetc%252fpasswd",
    "..%c0%af..%c0%afetc%c0%afpasswd",
    "..%ef%bc%8f..%ef%bc%8fetc/passwd",
    "..%5c..%5c..%5cetc%5cpasswd",
    "/etc/passwd%00.png",
    "/proc/self/environ",
    "/proc/self/fd/3",
    "/dev/zero",
    "~/.ssh/id_rsa",
    "C:\\Windows\\win.ini",
    "\\\\127.0.0.1\\share\\x.png",
    "model/weights.safetensors",
    "digits/../../../etc/passwd",
)
ADDRESSES = (
    "http://127.0.0.1:@TRAP@/x.png",
    "http://localhost:@TRAP@/x.png",
    "http://[::1]:@TRAP@/x.png",
    "http://0.0.0.0:@TRAP@/x.png",
    "http://127.1:@TRAP@/x.png",
    "http://2130706433:@TRAP@/x.png",
    "http://0x7f000001:@TRAP@/x.png",
    "http://0177.0.0.1:@TRAP@/x.png",
    "http://user:word@127.0.0.1:@TRAP@/x.png",
    "http://127.0.0.1:@TRAP@#@example.com/x.png",
    "https://127.0.0.1:@TRAP@/x.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "ftp://127.0.0.1:@TRAP@/x.png",
    "gopher://127.0.0.1:@TRAP@/_x",
    "dict://127.0.0.1:@TRAP@/d",
    "ldap://127.0.0.1:@TRAP@/x",
    "file://@CANARY@",
    "file:///etc/passwd",
    "s3://127.0.0.1:@TRAP@/x",
    "hf://127.0.0.1:@TRAP@/x",
    "data:image/png;base64,iVBORw0KGgo=",
)


class Payload(NamedTuple):
    """What is sent, and what it is called; the connection is ended after it if `ends`."""

    name: str
    data: bytes
    ends: bool = False


def request(
    body: bytes = b"", *headers: str, target: str = "/predict", method: str = "POST", host: str = "127.0.0.1"
) -> bytes:
    """A request whose Content-Length is right, unless `headers` tell another."""
    told = any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers)
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers]
    lines += [] if told else [f"Content-Length: @LENGTH@{len(body)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def as_json(document: object, target: str = "/predict") -> bytes:
    return request(json.dumps(document).encode(), "Content-Type: application/json", target=target)


def of_text(text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode("latin-1")
    return request(data, "Content-Type: application/json")


def form(*parts: bytes, end: bytes = b"--x--\r\n", kind: str = "multipart/form-data; boundary=x") -> bytes:
    return request(b"".join(b"--x\r\n" + part for part in parts) + end, f"Content-Type: {kind}")


def part(disposition: str, data: bytes = b"no image", *headers: str) -> bytes:
    lines = [f"Content-Disposition: form-data; {disposition}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data + b"\r\n"


def traversals() -> Iterator[Payload]:
    for text in TRAVERSALS:
        inside = quote(text, safe="/%.;~@")
        yield Payload(f"path {text}", request(method="GET", target="/" + inside))
        yield Payload(f"model {text}", request(b"@PNG@", target=f"/predict?model={inside}"))
        yield Payload(f"base64 {text}", as_json({"image": text}))
        yield Payload(f"entry {text}", as_json({"images": [{"name": text, "data": text}]}, "/explain"))
        name = text.replace("\\", "\\\\")
        yield Payload(f"file name {text}", form(part(f'name="f"; filename="{name}"')))


def addresses() -> Iterator[Payload]:
    for text in ADDRESSES:
        yield Payload(f"base64 {text}", as_json({"image": text}))
        yield Payload(f"url {text}", as_json({"url": text, "image_url": text, "images": text}))
        yield Payload(f"field {text}", form(part('name="url"', text.encode())))
        yield Payload(f"body {text}", request(text.encode(), "Content-Type: image/png", target="/explain"))
        yield Payload(f"query {text}", request(target="/predict?url=" + quote(text, safe="@")))
        yield Payload(f"target {text}", request(method="GET", target=quote(text, safe="/:@%[]#?")))
    svg = '<svg xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="http://127.0.0.1:@TRAP@/x"/></svg>'
    xxe = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file://@CANARY@">]><a>&b;</a>'
    for name, text in (("svg", svg), ("entity", xxe)):
        for kind in ("image/svg+xml", "application/xml", "image/png"):
            yield Payload(f"{name} as {kind}", request(text.encode(), f"Content-Type: {kind}"))


def forms() -> Iterator[Payload]:
    image = part('name="f"; filename="a.png"')
    yield Payload("no boundary", form(image, kind="multipart/form-data"))
    yield Payload("empty boundary", form(image, kind="multipart/form-data; boundary="))
    yield Payload("long boundary", form(image, kind=f"multipart/form-data; boundary={'x' * 5000}"))
    yield Payload("other boundary", form(image, kind="multipart/form-data; boundary=y"))
    yield Payload("boundary not ascii", form(image, kind="multipart/form-data; boundary=\xff\xfe"))
    yield Payload("multipart mixed", form(image, kind="multipart/mixed; boundary=x"))
    yield Payload("no end", form(image, end=b""))
    yield Payload("no part", form())
    yield Payload("no disposition", form(b"\r\nno image\r\n"))
    yield Payload("no name", form(part('filename="a.png"')))
    yield Payload("empty file", form(part('name="f"; filename="a.png"', b"")))
    yield Payload("fields alone", form(*[part(f'name="f{i}"') for i in range(3)]))
    yield Payload("1,000 fields", form(*[part(f'name="f{i}"') for i in range(1000)]))
    yield Payload("1,000 files", form(*[part(f'name="f{i}"; filename="{i}"', b"") for i in range(1000)]))
    yield Payload("1,000 headers", form(part('name="f"; filename="a"', b"", *[f"X-{i}: y" for i in range(1000)])))
    yield Payload("long header", form(part('name="f"; filename="a"', b"", "X: " + "y" * 100_000)))
    yield Payload("long name", form(part(f'name="f"; filename="{"a" * 100_000}"')))
    yield Payload("NUL in the name", form(part('name="f"; filename="a\0.png"')))
    yield Payload("name with a line break", form(part('name="f"; filename="a%0d%0aSet-Cookie: a=b"')))
    yield Payload("script in the name", form(part('name="f"; filename="<script>alert(1)</script>"')))
    yield Payload("surrogate name", form(part("name=\"f\"; filename*=utf-8''%ed%a0%80")))
    yield Payload("nested", form(part('name="f"', b"--y\r\n\r\n", "Content-Type: multipart/mixed; boundary=y")))
    yield Payload("too large", form(part('name="f"; filename="a"', b"x" * MAX_BYTES)))
    yield Payload("unknown encoding", form(part('name="f"'), kind="multipart/form-data; boundary=x; charset=no-such"))
    yield Payload("encoded part", form(part('name="f"; filename="a"', b"eA==", "Content-Transfer-Encoding: base64")))


def documents() -> Iterator[Payload]:
    deep = 50_000
    texts: dict[str, str | bytes] = {
        "empty": "",
        "deep lists": "[" * deep,
        "deep closed lists": "[" * deep + "]" * deep,
        "deep objects": '{"image":' * 10_000,
        "deep in images": '{"images":' + "[" * deep + "]" * deep + "}",
        "long integer": '{"image":' + "9" * 100_000 + "}",
        "large exponent": '{"image":1e999999999}',
        "NaN": '{"image":NaN}',
        "not UTF-8": b'{"image":"\xff\xfe"}',
        "UTF-16": '{"image":"x"}'.encode("utf-16"),
        "NUL": b'{"image":"\0"}',
        "cut": '{"image":"iVBORw0K',
        "comment": '{"image":"x"/* */}',
        "two documents": '{"image":"eA=="}{"image":"eA=="}',
        "twice the key": '{"image":"eA==","image":"../x"}',
        "prototype": '{"__proto__":{"image":"eA=="},"constructor":"x"}',
        "object of a type": '{"py/object":"os.system","image":"eA=="}',
        "surrogate": '{"images":[{"name":"\\ud800","data":"eA=="}]}',
        "many empty images": '{"images":[' + ",".join(['{"data":""}'] * 10_000) + "]}",
        "many keys": "{" + ",".join(f'"k{i}":1' for i in range(20_000)) + "}",
        "many equal hashes": "{" + ",".join(f'"{i * (2**61 - 1)}":1' for i in range(5000)) + "}",
        "too large": '{"image":"' + "A" * MAX_BYTES + '"}',
        "base64 with spaces": '{"image":"e A = ="}',
        "base64 without padding": '{"image":"eAA"}',
        "base64 of nothing": '{"image":""}',
        "an archive": json.dumps({"image": base64.b64encode(b"PK\x03\x04" + b"\0" * 100).decode()}),
        "a pickle": json.dumps({"image": base64.b64encode(b"\x80\x04cos\nsystem\n(S'id'\ntR.").decode()}),
    }
    for name, text in texts.items():
        yield Payload(f"json {name}", of_text(text))
    wrong: tuple[object, ...] = (None, True, 1, 1.5, [], {}, ["eA=="], {"data": "eA=="}, -(2**63))
    for value in wrong:
        yield Payload(f"json image {value}", as_json({"image": value}))
        yield Payload(f"json images {value}", as_json({"images": value}))
        yield Payload(f"json entry {value}", as_json({"images": [value]}))
        yield Payload(f"json data {value}", as_json({"images": [{"name": "a", "data": value}]}))
        yield Payload(f"json alone {value}", as_json(value))


def chunks(*parts: bytes) -> bytes:
    return b"".join(f"{len(one):x}\r\n".encode() + one + b"\r\n" for one in parts)


def framings() -> Iterator[Payload]:
    for told in ("-1", "+1", "1e3", "0x10", "abc", "", " ", "1 2", "1, 2", "99999999999999999999", "9" * 4000, "\xb2"):
        yield Payload(f"length {told[:30]}", request(b"x", f"Content-Length: {told}"))
    yield Payload("length of 1 TB", request(b"x", f"Content-Length: {10**12}"))
    yield Payload("two lengths", request(b"x", "Content-Length: 1", "Content-Length: 2"))
    yield Payload("too short", request(b"x", "Content-Length: 100"))
    yield Payload("no length", request(b"x", "Content-Length: 0"))
    te = "Transfer-Encoding: chunked"
    yield Payload("both", request(b"0\r\n\r\n", te, "Content-Length: 5"))
    yield Payload("both, smuggled", request(b"0\r\n\r\nGET @CANARY@ HTTP/1.1\r\n\r\n", "Content-Length: 40", te))
    yield Payload("chunked, no image", request(chunks(b"no", b"image") + b"0\r\n\r\n", te))
    yield Payload("chunked, bytes one by one", request(chunks(*[b"x"] * 2000) + b"0\r\n\r\n", te))
    yield Payload("chunked, too large", request(chunks(*[b"x" * 50_000] * 5), te))
    yield Payload("chunk of 2^64", request(b"ffffffffffffffff\r\nx", te))
    yield Payload("chunk of -1", request(b"-1\r\nx\r\n0\r\n\r\n", te))
    yield Payload("chunk of no number", request(b"zz\r\nx\r\n0\r\n\r\n", te))
    yield Payload("chunk with a long extension", request(b"1;" + b"a" * 70_000 + b"\r\nx\r\n0\r\n\r\n", te))
    yield Payload("chunk without an end", request(b"5\r\nhello!!!\r\n0\r\n\r\n", te))
    yield Payload("chunks never end", request(chunks(b"x"), te))
    for coding in ("gzip", "chunked, gzip", "xchunked", "identity", "chunked, chunked", "\x0bchunked"):
        yield Payload(f"coding {coding!r}", request(chunks(b"x") + b"0\r\n\r\n", f"Transfer-Encoding: {coding}"))
    bomb = zlib.compress(b"\0" * 10_000_000)
    yield Payload("compressed body", request(bomb, "Content-Encoding: deflate", "Content-Type: image/png"))
    yield Payload("compressed json", request(bomb, "Content-Encoding: deflate", "Content-Type: application/json"))


def heads() -> Iterator[Payload]:
    for host in (
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil.example@127.0.0.1",
        "127.0.0.1#evil.example",
        "127.0.0.1/evil.example",
        "127.0.0.1?evil.example",
        "127.0.0.1\\evil.example",
        "127.0.0.1, evil.example",
        "127.0.0.1:80:80",
        "127.0.0.1:x",
        "[::1].evil.example",
        "[::1",
        "0.0.0.0",
        "127.1",
        "0x7f.0.0.1",
        "127.0.0.1.",
        "LOCALHOST.evil",
        "10.0.0.1",
        "",
    ):
        yield Payload(f"host {host}", request(b"@PNG@", host=host))
    for origin in (
        "https://evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1@evil.example",
        "http://evil.example@127.0.0.1",
        "http://localhost.evil.example",
        "null",
        "file://",
        "",
        "http://",
        "http://[::1",
        "127.0.0.1",
        "chrome-extension://abc",
        "http://127.0.0.1, http://evil.example",
    ):
        yield Payload(f"origin {origin}", request(b"@PNG@", f"Origin: {origin}"))
    for kind in (
        "text/html",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/x-pickle",
        "image",
        "*/*",
    ):
        yield Payload(f"kind {kind}", request(b"@PNG@", f"Content-Type: {kind}"))
    yield Payload("long kind", request(b"@PNG@", "Content-Type: " + "a" * 20_000))
    for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "CONNECT", "BREW"):
        yield Payload(f"method {method}", request(b"@PNG@", method=method))
    for target in (
        "/predict/",
        "/health/",
        "//predict",
        "/Predict",
        "/predict;a=b",
        "/predict%00",
        "/docs",
        "/explain/x",
    ):
        yield Payload(f"target {target}", request(b"@PNG@", target=target, host="evil.example"))
    raw = {
        "two hosts": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        "no host": b"GET /metrics HTTP/1.1\r\n\r\n",
        "no host, 1.0": b"GET /metrics HTTP/1.0\r\n\r\n",
        "unknown version": b"GET /health HTTP/x.y\r\nHost: 127.0.0.1\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/0.9": b"GET /health\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",
        "zeros": bytes(100) + b"\r\n\r\n",
        "header without a name": b"GET /health HTTP/1.1\r\n: x\r\n\r\n",
        "space in a name": b"GET /health HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
        "NUL in a header": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nA: \0\r\n\r\n",
        "lone line feeds": b"GET /metrics HTTP/1.1\nA: b\n\n",
        "long target": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "long header": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
        "many headers": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        "target not ASCII": b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "half a head": b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    }
    for name, data in raw.items():
        yield Payload(name, data)
    yield Payload("websocket", request(b"", "Connection: Upgrade", "Upgrade: websocket", method="GET"))
    yield Payload("expectation and no image", request(b"x", "Expect: 100-continue"))


def png(width: int, height: int, data: bytes, *more: tuple[bytes, bytes], kind: int = 2, depth: int = 8) -> bytes:
    def chunk(name: bytes, inside: bytes) -> bytes:
        return struct.pack(">I", len(inside)) + name + inside + struct.pack(">I", binascii.crc32(name + inside))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    rest = b"".join(chunk(name, inside) for name, inside in more)
    return b"\x89PNG\r\n\x1a\n" + head + rest + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def images() -> Iterator[Payload]:
    zeros = zlib.compress(bytes(50_000_000), 9)
    small = zlib.compress(b"\0" + bytes(3))
    frame = b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x11\x00\x02\x11\x01\x03\x11\x01"
    many = b"\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00" * 2000
    gif = b"GIF89a\xff\xff\xff\xff\x00\x00\x00"
    made = {
        "png of 10^10 pixels": png(100_000, 100_000, small),
        "png of 2^31 pixels a side": png(2**31 - 1, 2**31 - 1, small),
        "png of no width": png(0, 5, small),
        "png bomb": png(20_000, 20_000, zeros),
        "png text bomb": png(1, 1, b"", (b"zTXt", b"a\0\0" + zeros)),
        "png profile bomb": png(1, 1, b"", (b"iCCP", b"a\0\0" + zeros)),
        "png of no data": png(8, 8, b""),
        "png of another depth": png(8, 8, small, depth=7),
        "png cut": png(8, 8, zlib.compress(bytes(25 * 8)))[:50],
        "jpeg of 2^32 pixels": b"\xff\xd8" + frame + b"\xff\xda\x00\x02\xff\xd9",
        "jpeg of many scans": b"\xff\xd8" + frame + many + b"\xff\xd9",
        "jpeg cut": b"\xff\xd8\xff\xe0\x00\x10JFIF",
        "gif of 2^32 pixels": gif + b",\0\0\0\0\xff\xff\xff\xff\0\x08\0\x3b",
        "gif of many frames": gif + b",\0\0\0\0\1\0\1\0\0\x02\0" * 5000 + b"\x3b",
        "bmp of 2^62 pixels": b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, *[0] * 6),
        "webp cut": b"RIFF\xff\xff\xff\xffWEBPVP8X",
        "tiff loop": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        "tiff of 2^32 entries": b"II*\0\x08\0\0\0\xff\xff",
        "avif cut": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf",
        "heic cut": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(@CANARY@) run\n",
        "pdf": b"%PDF-1.7\n1 0 obj<</URI(http://127.0.0.1:@TRAP@/)>>endobj",
        "fits": b"SIMPLE  =                    T",
        "ppm": b"P6\n99999 99999\n255\n",
        "zip": b"PK\x03\x04" + bytes(26),
        "html": b"<html><script>alert(1)</script></html>",
        "pickle": b"\x80\x04cposix\nsystem\n(S'cat @CANARY@'\ntR.",
        "one byte": b"\x89",
        "zeros": bytes(1000),
        "too large": bytes(MAX_BYTES + 1),
    }
    for name, data in made.items():
        yield Payload(f"image {name}", request(data, "Content-Type: image/png"))
        if len(data) < MAX_BYTES // 2:
            text = base64.b64encode(data.replace(b"@CANARY@", b"/etc/passwd").replace(b"@TRAP@", b"80")).decode()
            yield Payload(f"base64 image {name}", as_json({"image": text}, "/explain"))


PAYLOADS = [
    *traversals(),
    *addresses(),
    *forms(),
    *documents(),
    *framings(),
    *heads(),
    *images(),
]


@dataclass(eq=False)
class Watched:
    """What the process does while it is hostilely asked: files that it opens, addresses that it looks up or calls."""

    port: int
    trap: int
    canary: Path
    png: bytes
    watching: bool = False
    done: list[str] | None = None

    def note(self, event: str, arguments: tuple[object, ...]) -> None:
        """An audit hook: https://docs.python.org/3/library/audit_events.html."""
        if not self.watching or self.done is None:
            return
        if event == "open" and str(arguments[0]).startswith(("/etc/", "/proc/self/", "/dev/zero", str(self.canary))):
            self.done.append(f"open {arguments[0]}")
        elif event == "socket.getaddrinfo" or (event == "socket.connect" and self.port not in tuple(arguments[1])):  # type: ignore[arg-type]
            self.done.append(f"{event} {arguments[1:]}")

    def filled(self, data: bytes) -> bytes:
        """A payload with its places filled, and its true Content-Length."""
        head, gap, body = data.partition(b"\r\n\r\n")
        for place, value in (("CANARY", str(self.canary).encode()), ("TRAP", b"%d" % self.trap), ("PNG", self.png)):
            head, body = head.replace(b"@%s@" % place.encode(), value), body.replace(b"@%s@" % place.encode(), value)
        told = head.partition(b"@LENGTH@")
        if told[1]:
            _, line, rest = told[2].partition(b"\r\n")
            head = told[0] + b"%d" % len(body) + line + rest
        return head + gap + body

    def answer(self, data: bytes) -> tuple[int, bytes]:
        """Status and all that came with it."""
        with socket.socket() as connection:  # no `create_connection`, which looks a name up
            connection.settimeout(60)
            connection.connect(("127.0.0.1", self.port))
            connection.sendall(data)
            got = b""
            while not is_whole(got) and (more := connection.recv(1 << 16)):
                got = (got + more).removeprefix(b"HTTP/1.1 100 \r\n\r\n").removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        words = got.split(b" ", 2)
        return (int(words[1]) if words[0].startswith(b"HTTP/") else 0), got


def is_whole(got: bytes) -> bool:
    """Whether a response with a Content-Length has come to its end."""
    head, gap, body = got.partition(b"\r\n\r\n")
    if not gap:
        return False
    told = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(told) and len(body) >= int(told[0].split(b":")[1])


@pytest.fixture(scope="module")
def watched(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A server on a socket, in this process, so that what it does is seen."""
    canary = tmp_path_factory.mktemp("canary") / "secret.txt"
    canary.write_text(SECRET)
    service = service_of(*runs, device="cpu", limits=Limits(max_bytes=MAX_BYTES, timeout_s=TIMEOUT_S))
    server = uvicorn.Server(settings_of(make_app(service), timeout_s=1, head_s=TIMEOUT_S))
    pixels = service.models["digits"].network.predictor.artifact.spec
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as trap:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        import numpy as np

        image = encode_png(np.zeros((3, pixels.height, pixels.width), np.uint8))
        found = Watched(listener.getsockname()[1], trap.getsockname()[1], canary, image)
        sys.addaudithook(found.note)
        found.answer(request(b"", method="GET", target="/health").replace(b"@LENGTH@", b""))
        yield found
        trap.setblocking(False)
        with pytest.raises(BlockingIOError):
            trap.accept()  # nobody has called
        server.should_exit = True
        thread.join()


def test_the_payloads_are_two_hundred_or_more_and_all_differ() -> None:
    assert len({payload.data for payload in PAYLOADS}) == len(PAYLOADS) >= 200


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: ascii(payload.name)[1:80])
def test_a_hostile_request_is_refused_and_nothing_is_read_or_called(payload: Payload, watched: Watched) -> None:
    watched.watching, watched.done = True, []
    try:
        status, got = watched.answer(watched.filled(payload.data))
    finally:
        watched.watching = False
    assert 400 <= status < 500, got[:500]
    assert watched.done == []
    assert SECRET.encode() not in got
    assert b"root:" not in got


def test_afterwards_the_server_answers_as_before(watched: Watched, runs: list[Run]) -> None:
    status, got = watched.answer(watched.filled(request(b"@PNG@")))
    assert status == 200
    found = json.loads(got.partition(b"\r\n\r\n")[2])["predictions"][0]
    assert found["label"] == runs[0].predict(watched.png).label
