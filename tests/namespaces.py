"""Hosts of the tests' own: network namespaces joined by veth, gone when the test ends."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_NUMBER = itertools.count()


def ip(*words: str) -> None:
    """Run `ip`, failing with what it said."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@dataclass
class Host:
    """A network namespace."""

    name: str
    processes: list[subprocess.Popen[Any]] = field(default_factory=list)

    def ip(self, *words: str) -> None:
        ip("-n", self.name, *words)

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *words]

    def start(self, *words: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a process in the namespace; it is ended with the host."""
        process = subprocess.Popen(self.command(*words), **options)
        self.processes.append(process)
        return process

    def run(self, *words: str, timeout: float = 60.0) -> str:
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, check=False, timeout=timeout
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def set(self, key: str, value: str) -> None:
        """Set a sysctl of the namespace."""
        self.run("sh", "-c", f"echo {value} > /proc/sys/{key}")


@contextmanager
def hosts(*names: str) -> Iterator[list[Host]]:
    """Make namespaces with loopback up; remove them and end their processes at the end."""
    made: list[Host] = []
    try:
        for name in names:
            host = Host(f"gt{os.getpid()}-{next(_NUMBER)}-{name}")
            ip("netns", "add", host.name)
            made.append(host)
            host.ip("link", "set", "lo", "up")
        yield made
    finally:
        for host in made:
            for process in host.processes:
                process.kill()
                process.wait()
                for stream in (process.stdin, process.stdout, process.stderr):
                    if stream is not None:
                        stream.close()
            subprocess.run(["ip", "netns", "del", host.name], check=False, capture_output=True)


def join(left: Host, left_if: str, right: Host, right_if: str) -> None:
    """Join two hosts by a veth pair and set it up."""
    ip(
        "link", "add", left_if, "netns", left.name, "type", "veth",
        "peer", "name", right_if, "netns", right.name,
    )  # fmt: skip
    for host, interface in ((left, left_if), (right, right_if)):
        host.ip("link", "set", interface, "up")
