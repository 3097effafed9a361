"""systemd's notification socket: readiness, the watchdog, the status line."""

from __future__ import annotations

import os
import socket


class Notifier:
    """Sends sd_notify messages where systemd asks for them, and does nothing elsewhere."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        if address:
            # A leading @ stands for the abstract namespace's NUL byte.
            name = "\0" + address[1:] if address.startswith("@") else address
            # Never blocks: the pipeline must not wait for whoever reads this.
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)
            self._socket.connect(name)

    @property
    def present(self) -> bool:
        """Somebody listens: systemd started us."""
        return self._socket is not None

    def send(self, *lines: str) -> None:
        """Send lines such as READY=1, WATCHDOG=1, STOPPING=1, STATUS=text."""
        if self._socket is not None:
            try:
                self._socket.send("\n".join(lines).encode())
            except OSError:
                # systemd went away or its queue is full: the next watchdog ping tries again.
                return

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
