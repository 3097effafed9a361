"""What `guardian replay` tells of an input beside its incidents."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from guardian.cli import cli


def test_fragments_without_the_others_are_told(tmp_path: Path) -> None:
    """One line where datagrams stayed incomplete, none where all came whole."""
    whole = IP(src="192.168.1.2", dst="192.168.1.3", id=7) / UDP(sport=1, dport=9) / Raw(b"x" * 90)
    parts = [Ether(src="02:00:00:00:00:02") / part for part in fragment(whole, 48)]
    assert len(parts) > 1
    for number, part in enumerate(parts):
        part.time = 1.5e9 + number
    lines = {}
    for name, sent in (("all", parts), ("first", parts[:1])):
        path = tmp_path / f"{name}.pcap"
        wrpcap(str(path), sent)
        result = CliRunner().invoke(cli, ["replay", str(path)])
        assert result.exit_code == 0, result.output
        lines[name] = [line for line in result.stdout.splitlines() if "fragments" in line]
    assert lines == {"all": [], "first": ["datagrams of which fragments are missing: 1"]}
