"""The name that a connection is about, kept beside it: of HTTP, DNS and TLS; QUIC has its own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from guardian.addresses import Lan
from guardian.capture import read_frames
from guardian.conns import ConnTable
from guardian.decode import Decoder
from tests.ndpipairs import theirs


def hosts(path: Path, frames: int) -> Counter[tuple[str, str]]:
    """Return (service, host) of the connections that have one; slices must say the same."""
    table, decoder = ConnTable(Lan()), Decoder(ignore_checksums=True)
    found: Counter[tuple[str, str]] = Counter()
    told = {}
    steps = [table.step(decoder.decode(batch)) for batch in read_frames(path, frames)]
    for step in [*steps, table.finish()]:
        for uid, service, host in zip(
            step.slices.uid, step.slices.service, step.slices.host, strict=True
        ):
            told[uid] = service, host
        for uid, service, host in zip(
            step.records.uid, step.records.service, step.records.host, strict=True
        ):
            assert told[uid] == (service, host)
            if host:
                found[service.decode(), host.decode()] += 1
    return found


@pytest.mark.parametrize(
    ("capture", "service", "master"),
    [
        ("alexa-app.pcapng", "ssl", "TLS"),
        ("alexa-app.pcapng", "dns", "DNS"),
        ("alexa-app.pcapng", "http", "HTTP"),
        ("webdav.pcap", "http", "HTTP"),
        ("googledns_android10.pcap", "ssl", "TLS"),
        ("dns.pcap", "dns", "DNS"),
    ],
)
@pytest.mark.parametrize("frames", [16_384, 97])
def test_hosts_are_kept(data: Path, capture: str, service: str, master: str, frames: int) -> None:
    """As nDPI tells them, however the packets come in batches."""
    path = data / "protocol-pcaps" / "ndpi" / capture
    expected = {flow.host for flow in theirs(path.with_name(capture + ".out"))
                if flow.name == master and flow.host}  # fmt: skip
    found = {host for (kind, host) in hosts(path, frames) if kind == service}
    assert expected
    assert found >= expected
