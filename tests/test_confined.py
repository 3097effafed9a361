"""The daemon under its unit's own restrictions, with a broker, watched call by call.

Zero egress and nothing that listens, proven: every socket call and every file opened for writing
in the life of the daemon, from its first instruction to its end, is looked at.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import confined
from tests.broker import until
from tests.conftest import ROOT
from tests.namespaces import Host, hosts, join
from tests.test_daemon import query, send, systemd

pytestmark = [pytest.mark.net, pytest.mark.slow, pytest.mark.timeout(240)]

HUB, PORT = "192.168.60.20", 1883
CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)\) += (-?\d+|\?)")
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
CHANGES = {"rename", "renameat", "renameat2", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir",
           "link", "linkat", "symlink", "symlinkat", "truncate", "chmod", "fchmodat", "chown",
           "mknod", "mknodat"}  # fmt: skip


@dataclass
class Life:
    """What was seen of a daemon from its start to its end."""

    calls: list[tuple[str, str]]
    """Name and arguments of the calls that succeeded, or were begun (a connection)."""
    status: str
    """/proc/PID/status while it ran."""
    said: list[str]
    heard: str
    """What a listener got from the broker."""
    database: list[tuple[int]]
    state: Path
    ended: int
    log: str


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Let a daemon watch a LAN, tell a hub, be asked to end, and write down all it does."""
    for program in ("strace", "setpriv", "systemd-analyze", "mosquitto"):
        if os.geteuid() != 0 or shutil.which(program) is None:
            pytest.skip(f"needs root and {program}")
    folder = tmp_path_factory.mktemp("confined")
    state = Path(tempfile.mkdtemp(dir="/var/tmp"))  # pytest's folders are root's alone
    os.chown(state, confined.NOBODY, confined.NOBODY)
    try:
        yield live(folder, state)
    finally:
        shutil.rmtree(state)


def live(folder: Path, state: Path) -> Life:
    db, trace, log = state / "guardian.db", folder / "trace", folder / "log"
    conf = folder / "mosquitto.conf"
    conf.write_text(f"listener {PORT} {HUB}\nallow_anonymous true\npersistence false\nuser root\n")
    heard = folder / "heard"
    with (
        systemd(state / "notify") as said,
        hosts("device", "gateway") as (device, gateway),
        log.open("wb") as errors,
        heard.open("wb") as out,
    ):
        os.chown(state / "notify", confined.NOBODY, confined.NOBODY)
        join(device, "eth0", gateway, "lan0")
        device.ip("addr", "add", f"{HUB}/24", "dev", "eth0")
        gateway.ip("addr", "add", "192.168.60.1/24", "dev", "lan0")
        # A way out, so that what would leave the house is not stopped by having none.
        gateway.ip("route", "add", "default", "via", HUB)
        device.start("mosquitto", "-c", str(conf), stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        device.start(
            "mosquitto_sub", "-h", HUB, "-t", "#", "-F", "%t", stdout=out,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        gateway.start(
            "unshare", "-m", "strace", "-f", "-q", "-o", str(trace), "-s", "200",
            "-e", "trace=%network,%file,execve", "-e", "signal=none",
            sys.executable, "-m", "tests.confined", str(state), "--",
            sys.executable, "-m", "guardian.cli", "run", "-i", "lan0", "--set", f"mqtt.host={HUB}",
            cwd=ROOT, stderr=errors,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("GUARDIAN_")},
                "PYTHONDONTWRITEBYTECODE": "1",
                "GUARDIAN_STORE_PATH": str(db),
                "GUARDIAN_STORE_COMMIT_S": "0.3",
                "NOTIFY_SOCKET": str(state / "notify"),
            },
        )  # fmt: skip
        until(lambda: "READY=1" in said, f"it is ready: {log.read_text()}", 90)
        pid = daemon_of(gateway)
        send(device, 50, 9_999)
        until(lambda: "guardian/" in heard.read_text(), "the hub hears of it", 60)
        until(lambda: query(db, "SELECT count(*) FROM devices")[0][0], "a device is known", 60)
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        os.kill(pid, signal.SIGTERM)
        ended = gateway.processes[-1].wait(timeout=60)
        time.sleep(0.5)
    rows = query(db, "SELECT count(*) FROM connections WHERE resp_p = 9999")
    return Life(
        calls_of(trace), status, said, heard.read_text(), rows, state, ended, log.read_text()
    )


def daemon_of(host: Host) -> int:
    """Return the process of the daemon itself, which is nobody's."""
    words = host.run("sh", "-c", "ip netns pids $(ip netns identify $$)").split()
    for pid in map(int, words):
        try:
            known = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"guardian.cli" in known and Path(f"/proc/{pid}").stat().st_uid == confined.NOBODY:
            return pid
    raise AssertionError("there is no daemon")


def calls_of(trace: Path) -> list[tuple[str, str]]:
    """Return the calls of the daemon: those after it became guardian.cli."""
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    begin = next(
        k for k, line in enumerate(lines) if "execve(" in line and '"guardian.cli"' in line
        and "tests.confined" not in line and line.rstrip().endswith("= 0")
    )  # fmt: skip
    found, half = [], {}
    for raw in lines[begin + 1 :]:
        pid, _, line = raw.partition(" ")
        if line.rstrip().endswith("<unfinished ...>"):
            half[pid] = line.partition("<unfinished")[0]
            continue
        if "resumed>" in line:
            line = half.pop(pid, "") + line.partition("resumed>")[2]
        match = CALL.match(line.strip())
        if match and (match[3] != "-1" or "EINPROGRESS" in line or match[1] == "connect"):
            found.append((match[1], match[2]))
    return found


def test_it_works_as_ever(life: Life) -> None:
    assert life.ended == 0, life.log
    assert life.database == [(50,)]
    assert "WATCHDOG=1" in life.said
    assert life.said[-1] == "STOPPING=1"
    assert "homeassistant/device/" in life.heard
    assert "Traceback" not in life.log


def test_it_is_nobody_with_one_right(life: Life) -> None:
    status = dict(line.split(":\t", 1) for line in life.status.splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == {str(confined.NOBODY)}
    for kind in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 1 << 13, kind  # CAP_NET_RAW
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_nothing_listens(life: Life) -> None:
    names = [name for name, _ in life.calls]
    assert "connect" in names  # the watcher sees sockets at all
    assert "listen" not in names
    assert "accept" not in names
    assert "accept4" not in names
    for name, said in life.calls:
        if name == "bind":
            assert re.search(r"AF_PACKET|AF_NETLINK|AF_INET, sin_port=htons\(0\)", said), said


def test_it_speaks_to_the_broker_alone(life: Life) -> None:
    to = [said for name, said in life.calls if name in ("connect", "sendto", "sendmsg")]
    inet = [said for said in to if "AF_INET" in said]
    assert inet
    for said in inet:
        assert f"htons({PORT})" in said, said
        assert f'inet_addr("{HUB}")' in said, said
    assert not any("AF_PACKET" in said for said in to)  # it never sends a frame
    for said in to:
        if "AF_UNIX" in said:
            assert str(life.state / "notify") in said or "/nscd/" in said, said


def test_it_writes_below_its_state_alone(life: Life) -> None:
    wrote = set()
    for name, said in life.calls:
        opened = name in ("open", "openat", "creat") and WRITES.search(said)
        if opened or name in CHANGES:
            wrote |= set(re.findall(r'"([^"]*)"', said))
    inside = {path for path in wrote if Path(path).is_relative_to(life.state)}
    assert str(life.state / "guardian.db") in inside
    assert wrote - inside <= {"/dev/null"}


def test_no_line_of_the_unit_is_left_out() -> None:
    """Whoever adds a restriction says here whether this test keeps to it."""
    service = confined.UNIT.read_text(encoding="ascii").partition("[Service]")[2]
    service = service.partition("# Who it is")[2].partition("[Install]")[0]
    keys = set(re.findall(r"^(\w+)=", service, re.MULTILINE)) - {"Nice"}
    assert keys == confined.HELD | confined.APART
    assert not confined.HELD & confined.APART


def test_the_watcher_would_see_it() -> None:
    """A trace with a breach in it is read as one."""
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "trace").write_text(
            '7  execve("/usr/bin/python3", ["python3", "-m", "guardian.cli", "run"], 0x7) = 0\n'
            '7  connect(5, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("203.0.113.9'
            '")}, 16 <unfinished ...>\n'
            "8  listen(6, 1) = 0\n"
            "7  <... connect resumed>) = -1 EINPROGRESS (Operation now in progress)\n"
            '8  openat(AT_FDCWD, "/etc/x", O_WRONLY|O_CREAT, 0666) = -1 EROFS (Read-only)\n'
        )
        calls = calls_of(folder / "trace")
    finally:
        shutil.rmtree(folder)
    assert [name for name, _ in calls] == ["listen", "connect"]
    assert "203.0.113.9" in calls[1][1]
