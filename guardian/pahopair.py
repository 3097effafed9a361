"""paho wakes its thread through a pair of sockets; ours listens nowhere."""

from __future__ import annotations

import socket

import paho.mqtt.client as paho


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets, neither of which blocks."""
    one, two = socket.socketpair()
    one.setblocking(False)
    two.setblocking(False)
    return one, two


def listen_nowhere() -> None:
    """Let paho use our pair.

    Its own listens on a loopback port for a moment, at every connection; the unit forbids that.
    """
    paho._socketpair_compat = pair
