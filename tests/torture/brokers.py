"""Brokers that behave badly: a small one that refuses what it is told to, and a slow line."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP = 1, 2, 3, 4, 8, 9, 12, 13
QUOTA_EXCEEDED = 0x97

Policy = Callable[[int], str]
"""What becomes of the n-th message (from 0) that is no state: take, quota, silent or close. Who was
refused one for a quota is refused the rest until it comes again."""


class BadBroker:
    """As much of MQTT 3.1.1 and 5 as a publisher needs; `taken` has what it acknowledged."""

    def __init__(self, policy: Policy) -> None:
        self.taken: list[Any] = []
        self.asked = 0
        self._full = False
        self._policy = policy
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client:
                client.settimeout(10)
                try:
                    self._talk(client)
                except (OSError, EOFError):
                    continue

    def _talk(self, client: socket.socket) -> None:
        five = self._full = False
        while True:
            head = _exactly(client, 1)[0]
            body = _exactly(client, _length(client))
            kind = head >> 4
            if kind == CONNECT:
                five = body[6] == 5
                client.sendall(bytes((CONNACK << 4, 2 + five, 0, 0)) + bytes(five))
            elif kind == SUBSCRIBE:
                answer = body[:2] + bytes(five) + b"\1"
                client.sendall(bytes((SUBACK << 4, len(answer))) + answer)
            elif kind == PINGREQ:
                client.sendall(bytes((PINGRESP << 4, 0)))
            elif kind == PUBLISH and not self._publish(client, head, body, five=five):
                return

    def _publish(self, client: socket.socket, head: int, body: bytes, *, five: bool) -> bool:
        """Do with a message what the policy says; false to hang up."""
        size = struct.unpack_from("!H", body)[0]
        topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
        if not head & 0x06:
            return True
        mid, payload = rest[:2], rest[2 + five :]
        what = "take"
        if not head & 1:  # not retained: an incident
            what = self._policy(self.asked)
            self.asked += 1
            self._full |= what == "quota"
            what = "quota" if self._full else what
            if what == "take":
                self.taken.append((topic, json.loads(payload)))
        if what == "close":
            return False
        if what != "silent":
            code = bytes((QUOTA_EXCEEDED,)) if what == "quota" and five else b""
            client.sendall(bytes((PUBACK << 4, 2 + len(code))) + mid + code)
        return True

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()


def _exactly(client: socket.socket, count: int) -> bytes:
    out = b""
    while len(out) < count:
        more = client.recv(count - len(out))
        if not more:
            raise EOFError
        out += more
    return out


def _length(client: socket.socket) -> int:
    value = shift = 0
    while True:
        byte = _exactly(client, 1)[0]
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value
