"""Who is at home: devices by MAC, else by address, with their names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """One thing in the home, as known at one moment. Times are int64 nanoseconds."""

    index: int
    """Row in the DeviceTable; the `device` column of FeatureRows and Sequences."""
    key: str
    """Stable name of the device: its MAC, or `ip:` and an address where no MAC is seen."""
    mac: str
    """aa:bb:cc:dd:ee:ff, or empty."""
    addresses: tuple[str, ...]
    """Its addresses, the one used last at the end; at most MAX_ADDRESSES_PER_DEVICE."""
    name: str
    """Name learned from the network (DHCP), safe to print; empty when none was seen."""
    gateway: bool
    """The router itself: known, not judged."""
    first_seen: int
    last_seen: int
