"""Figures for Prometheus over HTTP on loopback, where switched on; otherwise nothing listens.

One thread answers one reader at a time with the last figures; the pipeline never waits for it. No
device, address or name is in them.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from guardian.errors import ConfigError
from guardian.option import address_port

log = logging.getLogger("guardian")

CONTENT = "text/plain; version=0.0.4; charset=utf-8"
READER_S = 5.0
"""Seconds that a reader may take to ask; another one waits meanwhile."""

COUNTERS = {
    "packets_total": ("counts", "packets", "Packets read."),
    "connections_total": ("counts", "connections", "Connections that ended."),
    "slices_total": ("counts", "slices", "Slices of connections that were judged."),
    "sequences_total": ("counts", "sequences", "Sequences that the models scored."),
    "malformed_total": ("counts", "malformed", "Packets that break their protocol's rules."),
    "bad_checksums_total": ("counts", "bad_checksums", "Packets with a wrong checksum."),
    "drops_total": ("", "drops", "Packets the kernel dropped since a ring was full."),
    "evicted_connections_total": ("counts", "evicted", "Connections a full table ended early."),
    "evicted_devices_total": ("devices", "evicted", "Devices that a full table forgot."),
    "shed_slices_total": ("counts", "shed", "Slices of floods that no model read."),
    "arp_unseen_total": ("counts", "arp_unseen", "ARP packets of floods that no rule looked at."),
    "refused_incidents_total": ("incidents", "refused", "Incidents that did not open: too many."),
    "cpu_seconds_total": ("cpu", "seconds", "Processor time since the start."),
}  # fmt: skip
GAUGES = {
    "packets_per_second": ("rates", "packets", "Packets a second of late."),
    "connections_per_second": ("rates", "connections", "Connections that ended a second of late."),
    "devices": ("devices", "known", "Devices known."),
    "devices_in_alert": ("devices", "alert", "Devices with an open incident that was told."),
    "incidents_open": ("incidents", "open", "Incidents that go on."),
    "delay_mean_seconds": ("delay", "mean_s", "From the line to the database, mean of late."),
    "delay_max_seconds": ("delay", "max_s", "From the line to the database, longest of late."),
    "memory_bytes": ("memory", "rss", "Memory in use."),
    "uptime_seconds": ("", "uptime_s", "Since the start."),
    "hub_connected": ("hub", "connected", "1: the broker is connected."),
    "hub_waiting": ("hub", "waiting", "Messages that wait for the broker."),
    "blind_spots": ("", "blind_spots", "Things that cannot be seen now."),
}  # fmt: skip


def exposition(status: dict[str, Any]) -> str:
    """Return the figures of a status in Prometheus' text format."""
    lines = []
    for kind, figures in (("counter", COUNTERS), ("gauge", GAUGES)):
        for name, (part, key, about) in figures.items():
            value = (status.get(part, {}) if part else status).get(key)
            if value is None:
                continue
            number = len(value) if isinstance(value, list) else value
            full = f"guardian_{name}"
            lines += [f"# HELP {full} {about}", f"# TYPE {full} {kind}"]
            lines.append(f"{full} {float(number):.15g}")
    return "\n".join(lines) + "\n"


def address(listen: str, *, exposed: bool) -> tuple[str, int]:
    """Return where to listen. Raises ConfigError for other than loopback that nobody asked for."""
    host, port = address_port(listen)
    if not exposed and not ipaddress.ip_address(host).is_loopback:
        raise ConfigError(
            f"metrics.listen = {listen!r} can be reached from the network, and there is no "
            "password: listen on 127.0.0.1, or set [metrics] exposed = true"
        )
    return host, port


class Metrics:
    """A reader's door; `tell` sets what it reads."""

    def __init__(self, listen: str, *, exposed: bool) -> None:
        """Raises ConfigError where it must not or cannot listen there."""
        host, port = address(listen, exposed=exposed)
        self._text = b""
        metrics = self

        class Handler(BaseHTTPRequestHandler):
            timeout = READER_S
            server_version, sys_version = "guardian", ""

            def do_GET(self) -> None:
                known = self.path.partition("?")[0] == "/metrics"
                body = metrics._text if known else b"guardian: the figures are at /metrics\n"
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", CONTENT)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                log.debug("metrics: %s", format % args)

        class Server(HTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def handle_error(self, *_: object) -> None:
                log.debug("a reader of the metrics went away")

            def server_bind(self) -> None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self.socket.bind(self.server_address)
                self.server_name, self.server_port = host, port  # no name is looked up

        try:
            self._server = Server((host, port), Handler)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on metrics.listen = {listen!r} ({error.strerror or error}): name "
                "another port"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()
        log.info("figures for Prometheus at http://%s/metrics", listen)

    def tell(self, status: dict[str, Any]) -> None:
        """Set what is read from now on."""
        self._text = exposition(status).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(READER_S)


def rows() -> str:
    """Return the figures as rows of a Markdown table."""
    named = [(n, "counter", a) for n, (*_, a) in COUNTERS.items()]
    named += [(n, "gauge", a) for n, (*_, a) in GAUGES.items()]
    return "".join(f"| `guardian_{name}` ({kind}) | {about} |\n" for name, kind, about in named)


BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->"


def main(path: Path) -> None:
    """Write the rows into the document, between the marks."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    path.write_text(before + BEGIN + rows() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
