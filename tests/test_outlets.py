"""Receivers beside the hub, real ones on loopback: what they get, and what happens without them."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from guardian import outlets, receivers, siem
from guardian.config import NotifySettings
from guardian.discovery import DRILL_MAC
from guardian.errors import ConfigError
from guardian.incidents import DeviceRef, IncidentEvent
from guardian.outlets import Outlet, Outlets
from guardian.receivers import Webhook
from tests.broker import free_port, until
from tests.test_store import incident

QUICK = (0.05, 0.1)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield  # Apprise has threads of its own
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("guardian-")], "ends")


class Server(HTTPServer):
    """A web server that keeps what it is told and answers as it is set to."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.heard: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.answers: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}/guardian"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        code = self.server.answers.pop(0) if self.server.answers else 200
        if code < 300:
            self.server.heard.append((dict(self.headers), json.loads(body)))
        self.send_response(code)
        if code == 302:
            self.send_header("Location", self.server.url)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def serving(port: int = 0) -> Iterator[Server]:
    server = Server(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def told(**settings: Any) -> Iterator[Outlets]:
    made = Outlets(NotifySettings(**settings), QUICK)
    try:
        yield made
    finally:
        made.close()


def event(name: str = "i1", change: Any = "opened", **changes: Any) -> IncidentEvent:
    return IncidentEvent(change, incident(name, **changes))


def test_nothing_is_there_by_default() -> None:
    before = set(threading.enumerate())
    with told() as out:
        out.announce([event()])
        assert set(threading.enumerate()) == before


# --- webhook -------------------------------------------------------------------------


def test_a_webhook_gets_what_mqtt_carries(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    with serving() as server, told(webhook=server.url, webhook_token_file=str(token)) as out:
        untold = replace(event("i0"), told=False)
        out.announce([untold, event(), event(change="updated"), event(change="closed")])
        until(lambda: len(server.heard) == 2, "both are heard")
        head, body = server.heard[0]
        assert head["Authorization"] == "Bearer secret"
        assert head["Content-Type"] == "application/json"
        assert (body["event_type"], body["id"], body["severity"]) == ("opened", "i1", "high")
        assert "late" not in body
        assert server.heard[1][1]["event_type"] == "closed"


def test_a_webhook_that_is_away_gets_all_in_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "guardian.notify")
    port = free_port()
    with told(webhook=f"http://127.0.0.1:{port}/") as out:
        out.announce([event(f"i{n}") for n in range(5)])
        until(lambda: caplog.records, "its absence is told")
        time.sleep(0.3)
        assert len(caplog.records) == 1  # once, not at each attempt
        assert "Connection refused" in caplog.text
        with serving(port) as server:
            until(lambda: len(server.heard) == 5, "all are heard")
            assert [body["id"] for _, body in server.heard] == [f"i{n}" for n in range(5)]
        assert "webhook is back" in caplog.text


def test_what_took_long_is_marked_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "LATE_S", 0.2)
    with serving() as server, told(webhook=server.url) as out:
        server.answers = [503] * 4
        out.announce([event()])
        until(lambda: server.heard, "it is heard at last")
        assert server.heard[0][1]["late"] is True


def test_a_webhook_that_refuses_is_not_asked_for_ever() -> None:
    with serving() as server, told(webhook=server.url) as out:
        server.answers = [404, 302]
        out.announce([event("i1"), event("i2"), event("i3")])
        until(lambda: server.heard, "the next is heard")
        # A redirect is not followed: what is told of a home goes where its owner said.
        assert [body["id"] for _, body in server.heard] == ["i3"]


def test_a_storm_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "MAX_WAITING", 10)
    outlet = Outlet(Webhook(f"http://127.0.0.1:{free_port()}/"), QUICK)
    for n in range(50):
        outlet.put({"event_type": "opened", "id": n})
    assert outlet.dropped >= 39
    assert [i["id"] for _, i in outlet._waiting][-1] == 49
    outlet.close(time.monotonic() + 2)


def test_a_clean_exit_does_not_wait_for_who_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        out = Outlets(NotifySettings(webhook=f"http://127.0.0.1:{silent.getsockname()[1]}/"))
        out.announce([event()])
        started = time.monotonic()
        out.close()
        assert time.monotonic() - started < outlets.LINGER_S + 0.5


# --- push ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Apprise's own
def test_push_through_apprise_rings_for_news_alone() -> None:
    pytest.importorskip("apprise")
    with serving() as server:
        url = f"json://127.0.0.1:{server.server_port}/phone"
        with told(push=(url,)) as out:
            drill = event("i9", device=DeviceRef(DRILL_MAC, "169.254.71.68", "Fire drill"))
            out.announce([event(), event(change="closed"), event(change="escalated"), drill])
            until(lambda: len(server.heard) == 3, "three are heard")
        first, _, last = (body for _, body in server.heard)
        assert first["title"] == "camera: scan (high)"
        assert first["message"] == "camera called 214 addresses on port 23 Unplug it."
        assert first["type"] == "failure"
        assert last["title"].startswith("Drill: Fire drill")


# --- syslog, EVE ----------------------------------------------------------------------


def test_syslog_by_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        with told(syslog=f"127.0.0.1:{server.getsockname()[1]}") as out:
            hostile = DeviceRef("02:00:00:00:00:01", "192.168.1.20", "cam\n<13>1 x\x1b[2J é")
            out.announce([event(device=hostile), event(change="closed")])
            first, second = server.recv(4096), server.recv(4096)
    head, _, text = first.partition(b"\xef\xbb\xbf")
    assert head.startswith(b"<106>1 2023-11-14T22:13:20.000000Z ")
    assert b" guardian " in head
    assert head.endswith(b" incident - ")
    assert b"\n" not in first
    assert b"\x1b" not in first
    assert "é: scan (high) opened: camera called" in text.decode()
    assert second.startswith(b"<110>1 ")


def test_eve_by_syslog_over_tcp_and_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with told(syslog=address, syslog_form="eve", eve=str(path)) as out:
            out.announce([event(), event(change="closed")])
            line, _ = server.accept()
            with line, line.makefile("rb") as stream:
                count = int(b"".join(iter(lambda: stream.read(1), b" ")))
                message = stream.read()
            server.accept()[0].close()
            until(lambda: path.exists() and len(path.read_text().splitlines()) == 2, "two lines")
    assert len(message) == count
    first, second = map(json.loads, path.read_text().splitlines())
    assert json.loads(message[message.index(b"{") :]) == first
    assert first["event_type"] == "alert"
    assert first["timestamp"] == "2023-11-14T22:13:20.000000+0000"
    assert (first["src_ip"], first["dest_ip"], first["dest_port"]) == (
        "192.168.1.20", "10.9.9.9", 23,
    )  # fmt: skip
    assert first["proto"] == "TCP"
    assert first["alert"]["severity"] == 1
    assert first["alert"]["signature"] == "GUARDIAN scan opened"
    assert first["guardian"]["explanation"].startswith("camera called")
    assert second["flow_id"] == first["flow_id"] < 1 << 53
    assert path.stat().st_mode & 0o777 == 0o640 & ~_umask()


def _umask() -> int:
    import os  # noqa: PLC0415 - here alone

    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_causes_keep_their_numbers() -> None:
    made = json.loads(siem.eve(json.loads(json.dumps(_payload("c2")))))
    assert made["alert"]["signature_id"] == siem.FIRST_ID + 1
    assert json.loads(siem.eve(_payload("new-cause")))["alert"]["signature_id"] == (
        siem.FIRST_ID + len(siem.SIGNATURES)
    )


def _payload(cause: str) -> dict[str, Any]:
    from guardian import discovery  # noqa: PLC0415 - here alone

    message = discovery.incident(
        discovery.Topics(""), IncidentEvent("opened", incident(cause=cause, peers=()))
    )
    assert message is not None
    payload: dict[str, Any] = json.loads(message.payload)
    return payload


# --- settings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"webhook": "ftp://x/"}, "notify.webhook is no address"),
        ({"webhook": "http:///x"}, "notify.webhook is no address"),
        ({"webhook": "http://x:port/"}, "notify.webhook is no address"),
        ({"webhook": "http://x/\r\nHost: y"}, "notify.webhook is no address"),
        ({"webhook": "http://x/", "webhook_token_file": "/nowhere"}, "webhook_token_file"),
        ({"syslog": "http://x"}, "notify.syslog"),
        ({"syslog": "tcp://"}, "notify.syslog"),
        ({"eve": "eve.json"}, "notify.eve"),
        ({"eve": "/nowhere/eve.json"}, "notify.eve"),
        ({"push": ("nonsense",)}, "notify.push"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Apprise's own
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        Outlets(NotifySettings(**settings))
    assert "\n" not in str(error.value)


def test_push_without_apprise_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"pip install .*apprise"):
        receivers.Push(("json://127.0.0.1",))
