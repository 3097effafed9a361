"""paho's client, which takes in whatever a broker sends; ours hangs up before it fills memory.

MQTT lets a packet have 256 MiB and paho keeps all of it; of messages sent with QoS 2, 65,535 at a
time; and of what we have to answer, as much as a broker asks and does not read. The opening of a
WebSocket may take for ever, if a byte comes now and then.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

MAX_PACKET = 1 << 20
"""Bytes of a packet. Commands have a thousand; the largest message that concerns us is a discovery
message of somebody's device, of some ten thousand."""

MAX_QUEUED = 10_000
"""Packets that wait to be read by the broker: at a start, those of 256 devices are some 600."""

QOS_2 = 0x04
QOS = 0x06


class TooMuchError(OSError):
    """A broker asks for more memory than it shall have; paho takes it for a lost connection."""


class BoundedClient(mqtt.Client):
    """Ends the connection at the head of a packet that is too large, or is none we asked for."""

    too_much = ""
    """Why this client hung up; empty while it did not."""
    _made: socket.socket | None = None
    _line: socket.socket | None = None
    _over = False

    def promised(self) -> Any:
        """Return what CONNECT says of the largest packet (Properties); None before MQTT 5."""
        if self.protocol != MQTTProtocolVersion.MQTTv5:
            return None
        properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = MAX_PACKET
        return properties

    def _sock_recv(self, bufsize: int) -> bytes:
        # The rest of a packet is asked for at once, right after the head that tells its length.
        if bufsize > MAX_PACKET:
            self._refuse(f"it sends a message of {bufsize:,} bytes")
        if len(self._out_packet) > MAX_QUEUED:
            self._refuse("it asks for answers and does not read them")
        data = super()._sock_recv(bufsize)
        # A frame of a WebSocket is kept whole, however many packets are in it.
        if len(getattr(self._sock, "_readbuffer", b"")) > 2 * MAX_PACKET:
            self._refuse("it sends a WebSocket frame without end")
        return data

    def _handle_publish(self) -> MQTTErrorCode:
        if self._in_packet["command"] & QOS == QOS_2:  # kept until it says more; we ask for QoS 1
            self.too_much = "it sends messages with a QoS that nobody asked for"
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return super()._handle_publish()

    def _create_socket_connection(self) -> socket.socket:
        self._made = super()._create_socket_connection()
        self._line = self._made.dup()  # what paho keeps is a WebSocket once it is open, or TLS
        if self._over:
            self._close_line()
        return self._made

    def _create_socket(self) -> Any:
        try:
            return super()._create_socket()
        except Exception:
            self._close_line()
            if self._made is not None:
                self._made.close()  # paho leaves it as it is
            raise

    def _sock_close(self) -> None:
        super()._sock_close()
        self._close_line()

    def hang_up(self) -> None:
        """End the connection for good, be it open, half open, or just about to begin."""
        self._over = True
        self._close_line()

    def _close_line(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            with suppress(OSError):  # it ended by itself
                line.shutdown(socket.SHUT_RDWR)
            line.close()

    def _refuse(self, why: str) -> None:
        self.too_much = why
        raise TooMuchError(why)
