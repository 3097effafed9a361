"""A real mosquitto on a free loopback port, and a listener that keeps all it hears."""

from __future__ import annotations

import json
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from guardian.config import MqttSettings

WAIT_S = 20.0


def until(condition: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> None:
    """Wait until the condition holds, or fail."""
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Broker:
    """A mosquitto that can be stopped and started again on its port."""

    folder: Path
    port: int = field(default_factory=free_port)
    user: str = ""
    password: str = ""
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    """Of clients: those without a certificate of it are refused."""
    websockets: bool = False
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = mosquitto()
        lines = [f"listener {self.port} 127.0.0.1", "persistence false", "log_type none"]
        if self.user:
            accounts = self.folder / "accounts"
            subprocess.run(
                ["mosquitto_passwd", "-b", "-c", str(accounts), self.user, self.password],
                check=True, capture_output=True,
            )  # fmt: skip
            accounts.chmod(0o644)  # mosquitto reads it as its own user
            lines += ["allow_anonymous false", f"password_file {accounts}"]
        else:
            lines.append("allow_anonymous true")
        ours = []  # what is of the first listener alone
        if self.certificate:
            ours += [f"certfile {self.certificate}", f"keyfile {self.key}"]
        if self.ca:
            ours += [f"cafile {self.ca}", "require_certificate true"]
        if self.websockets:
            # mosquitto 2.0.11 ends where no listener is a plain one.
            ours += ["protocol websockets", f"listener {free_port()} 127.0.0.1"]
        lines[1:1] = ours
        lines.append("user root")  # it must read the test's folder
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen([program, "-c", str(config)])
        until(self._answers, "mosquitto starts")

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, "mosquitto ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def settings(self, **changes: Any) -> MqttSettings:
        return replace(MqttSettings(host="127.0.0.1", port=self.port), **changes)


def mosquitto() -> str:
    """The path of mosquitto: Debian keeps it where only root's PATH looks."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/sbin")
    if not found:
        pytest.skip("no mosquitto: sudo apt install mosquitto")
    return found


@contextmanager
def broker_in(folder: Path, **options: Any) -> Iterator[Broker]:
    broker = Broker(folder, **options)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@dataclass
class Heard:
    topic: str
    payload: str
    retain: bool
    qos: int

    def json(self) -> Any:
        return json.loads(self.payload)


class Listener:
    """A hub: subscribes and keeps all it hears; comes back after the broker did."""

    def __init__(self, broker: Broker, topic: str = "#") -> None:
        self.heard: list[Heard] = []
        self._ready = 0
        self._topic = topic
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        if broker.user:
            self.client.username_pw_set(broker.user, broker.password)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda c, *_: c.subscribe(self._topic, qos=1)
        self.client.on_subscribe = lambda *_: setattr(self, "_ready", self._ready + 1)
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        self.wait_ready(1)

    def wait_ready(self, times: int) -> None:
        until(lambda: self._ready >= times, "the listener subscribes")

    def _on_message(self, _client: object, _userdata: object, m: mqtt.MQTTMessage) -> None:
        self.heard.append(Heard(m.topic, m.payload.decode(), m.retain, m.qos))

    def on(self, topic: str) -> list[Heard]:
        return [h for h in list(self.heard) if h.topic == topic]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Cutter:
    """A line to the broker that is cut, without a word, after some bytes of each connection."""

    def __init__(self, broker: Broker, lengths: Iterable[int]) -> None:
        self._broker = broker
        self._lengths = iter(lengths)
        self.cuts = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._broker.port))
            with near, far:
                self._pass(near, far, next(self._lengths, 1 << 60))

    def _pass(self, near: socket.socket, far: socket.socket, left: int) -> None:
        while left > 0:
            ready, _, _ = select.select([near, far], [], [])
            for source, target in ((near, far), (far, near)):
                if source in ready:
                    data = source.recv(min(left, 65_536))
                    if not data:
                        return
                    left -= len(data)
                    target.sendall(data)
        self.cuts += 1

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()


@contextmanager
def listening(broker: Broker, topic: str = "#") -> Iterator[Listener]:
    listener = Listener(broker, topic)
    try:
        yield listener
    finally:
        listener.close()
