"""Runs a command as the unit does, where no systemd runs: what of its lines the kernel can be told
without it.

    python -m tests.confined STATE -- COMMAND...      (root, in a network namespace of the test's)

What is held to, and what is not, stands in HELD and APART; tests/matrix.sh has all of it.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

UNIT = ROOT / "systemd" / "guardian.service"
_HELD = """
User Group CapabilityBoundingSet AmbientCapabilities NoNewPrivileges UMask ProtectSystem
StateDirectory SystemCallFilter SystemCallErrorNumber RestrictAddressFamilies RestrictNamespaces
LockPersonality MemoryDenyWriteExecute
"""
HELD = frozenset(_HELD.split())
"""Lines of the unit that this keeps to. User and Group are nobody here; ProtectSystem=strict leaves
STATE alone to be written."""
_APART = """
IPAddressDeny IPAddressAllow MemoryMax TasksMax PrivateTmp ProtectHome PrivateDevices PrivateMounts
KeyringMode RemoveIPC ProtectProc ProtectKernelTunables ProtectKernelModules ProtectKernelLogs
ProtectControlGroups ProtectClock ProtectHostname RestrictRealtime RestrictSUIDSGID
SystemCallArchitectures StateDirectoryMode RuntimeDirectory RuntimeDirectoryMode
ConfigurationDirectory ConfigurationDirectoryMode
"""
APART = frozenset(_APART.split())
"""Those it does not: they need a control group, a manager, or would hide the checkout."""
CALLS = {"RestrictNamespaces": {"setns", "unshare"}, "LockPersonality": {"personality"}}
"""Calls that lines of the unit forbid by what is asked; here they are forbidden altogether."""
NOBODY = 65534
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16, "AF_PACKET": 17}
_EPERM, _ALLOW, _ERRNO, _EQUAL = 1, 0x7FFF0000, 0x00050000, 4
_PR_SET_MDWE, _MDWE_REFUSE = 65, 1
"""Of Linux 6.3 and later."""


def values(key: str) -> list[str]:
    """Return what the unit gives a key, a line each."""
    lines = UNIT.read_text(encoding="ascii").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


# --- the outside, as root ------------------------------------------------------------------


def outside(state: Path, command: list[str]) -> None:
    """Hide, shut and give away; then go inside. Does not return."""
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    reachable([Path(sys.base_prefix), Path(sys.prefix), ROOT, state])
    subprocess.run(["mount", "--bind", state, state], check=True)
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        place = line.split()[1]
        if place != str(state) and not place.startswith(("/proc", "/sys", "/dev")):
            # Not all can be (a tmpfs of another namespace); then the watcher tells.
            subprocess.run(
                ["mount", "-o", "remount,bind,ro", place], check=False, capture_output=True
            )
    raised = ",".join(
        "+" + name.removeprefix("CAP_").lower()
        for name in values("CapabilityBoundingSet")[0].split()
    )
    os.chdir("/")
    os.umask(int(values("UMask")[0], 8))
    os.execvp(
        "setpriv",
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs",
         f"--bounding-set=-all,{raised}", f"--inh-caps=-all,{raised}",
         f"--ambient-caps=-all,{raised}", "env", f"PYTHONPATH={ROOT}", sys.executable, "-m",
         "tests.confined", "--inside", "--", *command],
    )  # fmt: skip


def reachable(paths: list[Path]) -> None:
    """Let everybody pass to some folders: what shuts them off is replaced by an empty folder in
    which they alone lie."""
    for shut in sorted({closed for path in paths for closed in closed_above(path)}):
        inner = [path for path in paths if path.is_relative_to(shut)]
        for number, path in enumerate(inner):
            aside = Path(f"/run/guardian-test-{os.getpid()}-{number}")
            aside.mkdir(exist_ok=True)
            subprocess.run(["mount", "--rbind", path, aside], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", shut], check=True)
        for number, path in enumerate(inner):
            aside = Path(f"/run/guardian-test-{os.getpid()}-{number}")
            path.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--rbind", aside, path], check=True)
            subprocess.run(["umount", "-l", aside], check=True)
            aside.rmdir()


def closed_above(path: Path) -> list[Path]:
    """Return the folder nearest to / above a path that lets not everybody pass, if any."""
    above = [folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001]
    return above[:1]


# --- the inside, as nobody -----------------------------------------------------------------


def inside(command: list[str]) -> None:
    """Give up what the unit forbids, and become the command. Does not return."""
    libc = ctypes.CDLL(None, use_errno=True)
    if values("MemoryDenyWriteExecute") == ["yes"]:
        libc.prctl(_PR_SET_MDWE, _MDWE_REFUSE, 0, 0, 0)
    filter_calls(
        allowed_calls(), [FAMILIES[name] for name in values("RestrictAddressFamilies")[0].split()]
    )
    os.execvp(command[0], command)


def allowed_calls() -> set[str]:
    """Return the names of the system calls that the unit lets through."""
    names = expanded("@default")
    for text in values("SystemCallFilter"):
        for word in text.removeprefix("~").split():
            names = names - expanded(word) if text.startswith("~") else names | expanded(word)
    for key, calls in CALLS.items():
        if values(key) == ["yes"]:
            names -= calls
    # systemd itself keeps these, or nothing could start; see systemd.exec(5).
    return names | {"execve", "exit", "exit_group", "getrlimit", "rt_sigreturn", "sigreturn"}


def expanded(group: str) -> set[str]:
    """Return the calls of a group, by what systemd says of it."""
    if not group.startswith("@"):
        return {group}
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", group],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    words = [line.strip() for line in done.stdout.splitlines()[1:]]
    found: set[str] = set()
    for word in words:
        if word and not word.startswith("#"):
            found |= expanded(word)
    return found


class _Compare(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint), ("op", ctypes.c_int),
        ("a", ctypes.c_uint64), ("b", ctypes.c_uint64),
    )  # fmt: skip


def filter_calls(names: set[str], families: list[int]) -> None:
    """Load the filter; sockets are let through by family alone."""
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(_ERRNO | _EPERM)))
    resolve = lib.seccomp_syscall_resolve_name
    for name in sorted(names - {"socket"}):
        number = resolve(name.encode())
        if number >= 0:
            assert not lib.seccomp_rule_add_array(context, ctypes.c_uint32(_ALLOW), number, 0, None)
    for family in families:
        rule = _Compare(0, _EQUAL, family, 0)
        assert not lib.seccomp_rule_add_array(
            context, ctypes.c_uint32(_ALLOW), resolve(b"socket"), 1, ctypes.byref(rule)
        )
    assert not lib.seccomp_load(context)
    lib.seccomp_release(context)


def main() -> None:
    first, mark, *command = sys.argv[1:]
    assert mark == "--"
    if first == "--inside":
        inside(command)
    outside(Path(first), command)


if __name__ == "__main__":
    main()
