"""What the user says: commands that wait, and what they changed in the database."""

from __future__ import annotations

import json
import logging
import sqlite3

from guardian.commands import MAX_ARGS, Command, DropBox, check, clean_name, drop_path
from guardian.ledger import Ledger
from guardian.outbox import encode
from guardian.rules import Rule, holding

log = logging.getLogger("guardian.store")


class Said(Ledger):
    """The commands of the database, and the drop-box beside it."""

    _drop: DropBox | None

    def poll_commands(self, now: int) -> list[Command]:
        """Return the commands that wait, oldest first, each until mark_done is called.

        Rows that are no valid command are marked as refused.
        """
        with self._errors():
            if self._drop is not None:
                self._take_over(self._drop)
            rows = self._db.execute(
                "SELECT id, created, author, kind, args FROM commands WHERE done IS NULL "
                "ORDER BY created, id"
            ).fetchall()
        out = []
        for name, created, author, kind, text in rows:
            try:
                args = json.loads(text) if len(text) <= MAX_ARGS else None
            except (ValueError, RecursionError):
                args = None
            wrong = check(kind, args)
            if wrong or args is None:
                log.warning("a command of %r was refused: %s", author, wrong)
                self.mark_done(name, now, f"refused: {wrong}")
            else:
                out.append(Command(name, created, author, kind, args))
        return out

    def _take_over(self, drop: DropBox) -> None:
        try:
            rows = drop.read()
            if rows:
                with self._transaction():
                    self._db.executemany(
                        "INSERT OR IGNORE INTO commands (id, created, author, kind, args) "
                        "VALUES (?, ?, ?, ?, ?)",
                        (row for _, row in rows),
                    )
                drop.remove([number for number, _ in rows])
        except sqlite3.Error as error:
            # The group can write that file: what is wrong with it must not stop the daemon.
            log.warning("cannot read the commands in %s: %s", drop_path(self.path), error)

    def mark_done(self, command: str, now: int, result: str = "ok") -> None:
        """Note that the command with this id was taken, or why it was refused."""
        with self._errors():
            self._db.execute(
                "UPDATE commands SET done = ?, result = ? WHERE id = ?", (now, result, command)
            )

    def rules(self, now: int) -> list[Rule]:
        """Return what the user said that holds at `now`, oldest first."""
        with self._errors():
            return holding(self._db, now)

    def undo(self, command: str) -> bool:
        """Take back an allow, a snooze or a feedback; false where none of that id holds.

        With a snooze go the earlier ones of its device, with a feedback those of its incident.
        """
        with self._errors(), self._transaction():
            row = self._db.execute(
                "SELECT kind, args FROM commands WHERE id = ? AND result = 'ok' "
                "AND kind IN ('allow', 'snooze', 'feedback')",
                (command,),
            ).fetchone()
            if row is None:
                return False
            kind, args = row[0], json.loads(row[1])
            field = {"snooze": "device", "feedback": "incident"}.get(kind)
            if field is None:
                self._db.execute("UPDATE commands SET result = 'undone' WHERE id = ?", (command,))
            else:
                self._db.execute(
                    "UPDATE commands SET result = 'undone' WHERE kind = ? AND result = 'ok' "
                    "AND json_extract(args, ?) = ?",
                    (kind, f"$.{field}", args[field]),
                )
            if kind == "feedback":
                self._db.execute(
                    "UPDATE incidents SET feedback = NULL WHERE id = ?", (args["incident"],)
                )
        return True

    def name_device(self, key: str, name: str) -> bool:
        """Give a device the user's name (empty: take it away); false where it is unknown."""
        with self._errors():
            cursor = self._db.execute(
                "UPDATE devices SET user_name = ? WHERE key = ?", (clean_name(name) or None, key)
            )
        return cursor.rowcount > 0

    def names(self) -> dict[str, str]:
        """Return the user's names by device key."""
        with self._errors():
            rows = self._db.execute("SELECT key, user_name FROM devices WHERE user_name <> ''")
            return dict(rows.fetchall())

    def set_feedback(self, incident: str, answer: str) -> bool:
        """Note what the user says of an incident; false where it is unknown."""
        with self._errors():
            cursor = self._db.execute(
                "UPDATE incidents SET feedback = ? WHERE id = ?", (answer, incident)
            )
        return cursor.rowcount > 0

    def leave(self, command: Command) -> None:
        """Take a command that came by another way than the drop-box; poll_commands has it next."""
        with self._errors():
            self._db.execute(
                "INSERT OR IGNORE INTO commands (id, created, author, kind, args) "
                "VALUES (?, ?, ?, ?, ?)",
                (command.id, command.created, command.author, command.kind, encode(command.args)),
            )

    def result(self, command: str) -> str:
        """Return `ok` or why a command was refused; empty while it waits."""
        with self._errors():
            row = self._db.execute(
                "SELECT result FROM commands WHERE id = ?", (command,)
            ).fetchone()
        return str(row[0] or "") if row else ""

    def forget_device(self, key: str) -> None:
        """Remove a device; incidents and connections stay until their age."""
        with self._errors():
            self._db.execute(
                "DELETE FROM devices WHERE key = :key "
                "OR key IN (SELECT key FROM kin WHERE same_as = :key AND state = 'linked')",
                {"key": key},
            )
            self._db.execute("DELETE FROM kin WHERE key = :key OR same_as = :key", {"key": key})

    # --- the same device under another MAC ------------------------------------

    def ask_kin(self, new: str, old: str, reason: str, now: int) -> bool:
        """Note the question whether `new` is `old`; false where it was asked before."""
        with self._errors():
            cursor = self._db.execute(
                "INSERT INTO kin (key, fingerprint, names, same_as, state, reason, at) "
                "VALUES (?, '', '[]', ?, 'asked', ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "same_as = excluded.same_as, state = 'asked', reason = excluded.reason, "
                "at = excluded.at WHERE state = ''",
                (new, old, reason, now),
            )
        return cursor.rowcount > 0

    def set_kin(self, new: str, old: str, state: str, now: int) -> None:
        """Note the answer: linked or refused."""
        with self._errors():
            self._db.execute(
                "INSERT INTO kin (key, fingerprint, names, same_as, state, reason, at) "
                "VALUES (?, '', '[]', ?, ?, '', ?) ON CONFLICT (key) DO UPDATE SET "
                "same_as = excluded.same_as, state = excluded.state, at = excluded.at",
                (new, old, state, now),
            )

    def kin(self) -> dict[str, tuple[str, str, str]]:
        """Return (key of the earlier device, state, reason) by key, oldest answer first."""
        with self._errors():
            rows = self._db.execute(
                "SELECT key, same_as, state, reason FROM kin WHERE state <> '' ORDER BY at, key"
            )
            return {key: (old, state, reason) for key, old, state, reason in rows}
