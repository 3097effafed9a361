"""Where Guardian is installed, and what is told of each step."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from guardian.errors import GuardianError

PROGRAM = "/opt/guardian"
"""The program's own Python environment."""
CONFIG = "/etc/guardian/guardian.toml"
STATE = "/var/lib/guardian"
UNITS = "/etc/systemd/system"
LINK = "/usr/local/bin/guardian"
"""Stands in everybody's PATH and points at the program."""
ACCOUNT = "guardian"
"""Name of the user and of the group."""

PAST = {
    "make": "made", "keep": "kept", "replace": "replaced", "remove": "removed", "start": "started",
    "stop": "stopped", "check": "checked", "leave": "left", "enable": "enabled",
}  # fmt: skip
_SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"


class InstallError(GuardianError):
    """A step that cannot be done, in a sentence that says what to do."""


@dataclass(frozen=True)
class Ground:
    """A root folder; `/` is this machine."""

    root: Path
    dry: bool
    """Only tell what would be done."""
    echo: Callable[[str], None]

    @property
    def live(self) -> bool:
        """Whether this machine is meant, not a folder that becomes one."""
        return self.root == Path("/")

    @property
    def booted(self) -> bool:
        """Whether systemd runs this machine, so that units can be started."""
        return self.live and Path("/run/systemd/system").is_dir()

    def at(self, path: str) -> Path:
        """Return where a path of the installed system lies now."""
        return self.root / path.lstrip("/")

    def tell(self, verb: str, what: str, why: str = "") -> None:
        """Print a line for a step: what was done, or would be."""
        word = f"would {verb}" if self.dry and verb not in ("keep", "leave") else PAST[verb]
        self.echo(f"{word:<13} {what}{f' ({why})' if why else ''}")

    @contextmanager
    def writing(self, path: str) -> Iterator[Path]:
        """Give a path to be written; what the system refuses becomes a sentence."""
        target = self.at(path)
        try:
            yield target
        except OSError as error:
            raise InstallError(
                f"cannot write {error.filename or target} ({error.strerror or error}): use sudo, "
                "or --root DIR to install into a folder"
            ) from error

    def folder(self, path: str, mode: int, owner: str = "root", group: str = "root") -> None:
        """Make a folder, or set the rights of the one that is there."""
        target = self.at(path)
        if (
            target.is_dir()
            and target.stat().st_mode & 0o7777 == mode
            and self.owned(target, owner, group)
        ):
            self.tell("keep", path)
            return
        verb = "replace" if target.is_dir() else "make"
        why = f"{mode:04o} {owner}:{group}"
        if not self.dry:
            with self.writing(path):
                target.mkdir(parents=True, exist_ok=True)
                self.give(target, owner, group)
                target.chmod(mode)
        self.tell(verb, path, f"its rights: {why}" if verb == "replace" else why)

    def file(self, path: str, text: str, mode: int) -> bool:
        """Write a file of root's whole or not at all; return whether it changed."""
        target = self.at(path)
        if target.is_file() and target.read_bytes() == text.encode():
            self.tell("keep", path)
            return False
        verb = "replace" if target.exists() else "make"
        if not self.dry:
            with self.writing(path):
                target.parent.mkdir(parents=True, exist_ok=True)
                fresh = target.with_name(f".{target.name}.new")
                fresh.write_text(text, encoding="utf-8")
                fresh.chmod(mode)
                fresh.replace(target)
        self.tell(verb, path)
        return True

    def remove(self, path: str) -> bool:
        """Remove a file, a link or a folder with all in it; return whether it was there."""
        target = self.at(path)
        if not target.exists() and not target.is_symlink():
            return False
        if not self.dry:
            with self.writing(path):
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                else:
                    target.unlink()
        self.tell("remove", path)
        return True

    # --- accounts ---

    def number(self, kind: str, name: str) -> int | None:
        """Return the id of a user (`passwd`) or group (`group`), None where there is none.

        Read from the files, which hold what this program makes: a folder has no other source.
        """
        try:
            lines = self.at(f"/etc/{kind}").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        for line in lines.splitlines():
            parts = line.split(":")
            if parts[0] == name and len(parts) > 2 and parts[2].isdigit():
                return int(parts[2])
        return None

    def give(self, target: Path, owner: str, group: str) -> None:
        """Give a file to its owner. Who is not root stages a folder and leaves that out."""
        uid, gid = self.number("passwd", owner), self.number("group", group)
        if os.geteuid() == 0 and uid is not None and gid is not None:
            os.chown(target, uid, gid)

    def owned(self, target: Path, owner: str, group: str) -> bool:
        """Tell whether a file is its owner's, as far as `give` can make it so."""
        uid, gid = self.number("passwd", owner), self.number("group", group)
        if os.geteuid() != 0 or uid is None or gid is None:
            return True
        found = target.stat()
        return (found.st_uid, found.st_gid) == (uid, gid)

    # --- other programs ---

    def run(self, *words: str | Path, hint: str = "") -> str:
        """Run a program; return what it printed. Raises InstallError with its last line."""
        done = self.tried(*words)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            raise InstallError(f"{Path(str(words[0])).name} failed: {said[-1]}{hint}")
        return done.stdout

    def tried(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program and return how it ended. Raises InstallError where there is none."""
        name = str(words[0])
        found = shutil.which(name, path=f"{_SBIN}:{os.environ.get('PATH', '')}")
        if found is None:
            raise InstallError(f"the program {name} is missing: install it, then run this again")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GUARDIAN_"))}
        return subprocess.run(
            [found, *map(str, words[1:])], capture_output=True, text=True, check=False, env=kept
        )
