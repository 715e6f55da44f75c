"""`opsin serve` as a process: connections, signals, what its terminal shows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opsin.runs import Run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")
Start = Callable[..., "Server"]


class Server:
    """A running `opsin serve`, on a free port."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "opsin", "serve", *arguments, "--port", "0", "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        told = json.loads("".join(iter(self.process.stdout.readline, "}\n")) + "}")
        self.address = str(told["address"])
        self.port = int(self.address.rpartition(":")[2])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.address + path, timeout=60) as answer:
            return str(answer.read().decode())

    def label(self, photo: Path) -> str:
        request = urllib.request.Request(f"{self.address}/predict", photo.read_bytes())
        request.add_header("Content-Type", "image/png")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["predictions"][0]["label"])

    def begin(self, photo: Path) -> tuple[socket.socket, bytes]:
        """A request of which half has been sent and arrived, and the other half."""
        data = photo.read_bytes()
        connection = self.connect()
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data[: len(data) // 2])
        until(lambda: "opsin_requests_in_flight 1" in self.get("/metrics"))
        return connection, data[len(data) // 2 :]

    def stop(self) -> tuple[int, str]:
        """Exit code and standard error after SIGTERM."""
        assert self.process.stderr is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60), self.process.stderr.read()

    def refuses_connections(self) -> bool:
        try:
            self.connect().close()
        except ConnectionError:
            return True
        return False


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must happen."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def read_all(connection: socket.socket) -> bytes:
    """What the server sends before it closes the connection."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[Server] = []

    def started(*arguments: str) -> Server:
        servers.append(Server(*arguments))
        return servers[-1]

    yield started
    for server in servers:
        server.process.kill()
        server.process.communicate()


def test_it_answers_and_stops_in_order_on_sigterm(start: Start, runs: list[Run], photos: list[Path]) -> None:
    server = start(str(runs[0].path))
    assert server.label(photos[0]) == runs[0].predict(photos[0]).label
    assert server.stop() == (0, "")


def test_a_request_in_flight_is_answered_after_sigterm_and_no_new_one_is_taken(
    start: Start, runs: list[Run], photos: list[Path]
) -> None:
    server = start(str(runs[0].path))
    connection, rest = server.begin(photos[0])
    server.process.send_signal(signal.SIGTERM)
    until(server.refuses_connections)
    with connection:
        connection.sendall(rest)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(body)["predictions"][0]["label"] == runs[0].predict(photos[0]).label
    assert server.process.wait(60) == 0


def test_a_request_that_never_ends_does_not_keep_the_server_from_stopping(
    start: Start, runs: list[Run], photos: list[Path]
) -> None:
    server = start(str(runs[0].path), "--timeout", "1.5")
    connection, _ = server.begin(photos[0])
    with connection:
        assert server.stop() == (0, "")
        assert read_all(connection).startswith(b"HTTP/1.1 408")


HALVES = {
    b"": b"",
    b"POST /predict HTT": b"HTTP/1.1 408",
    b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n": b"HTTP/1.1 408",
    b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n1234": b"HTTP/1.1 408",
    b"POST /predict HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 9\r\n\r\n1234": b"HTTP/1.1 403",
}


def test_half_a_request_does_not_hold_a_connection(start: Start, runs: list[Run]) -> None:
    server = start(str(runs[0].path), "--timeout", "0.5")
    for sent, answer in HALVES.items():
        with server.connect() as connection:
            connection.sendall(sent)
            got = read_all(connection)  # ends when the server closes the connection
        assert got.startswith(answer), sent
        assert bool(got) == bool(answer), sent


def test_a_run_that_was_trained_again_and_one_that_is_damaged_are_told(
    start: Start, runs: list[Run], photos: list[Path], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(runs[0].model_folder, tmp_path / "model"))
    server = start(str(model))
    before = server.label(photos[0])
    shutil.rmtree(model)
    shutil.copytree(runs[1].model_folder, model)  # another task: boxes
    until(lambda: json.loads(server.get("/health"))["models"]["model"]["reloads"] == 1)
    other = server.label(photos[0])
    (model / "weights.safetensors").write_bytes(b"half")
    until(lambda: json.loads(server.get("/health"))["status"] == "stale")
    assert server.label(photos[0]) == other
    code, told = server.stop()
    assert code == 0
    assert "the new network answers" in told
    assert "weights.safetensors" in told
    assert before == runs[0].predict(photos[0]).label
    assert other == runs[1].predict(photos[0]).label
