"""What the daemon says: levels by part, the journal's prefixes, harmless lines."""

from __future__ import annotations

import io
import logging
import os
import re
from pathlib import Path

import pytest

from guardian import logs
from tests.conftest import ROOT


def test_the_parts_of_the_log_are_those_of_the_code() -> None:
    named = set()
    for path in (ROOT / "guardian").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'getLogger\("guardian\.(\w+)"\)', text))
    assert named == set(logs.PARTS)


def test_a_line_of_the_log_has_its_level_and_can_do_no_harm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "in_journal", lambda _stream: True)
    root = logging.getLogger()
    kept, level = list(root.handlers), root.level
    try:
        logs.begin()
        logs.set_levels("warning", {"capture": "debug"})
        logging.getLogger("guardian").info("not said")
        logging.getLogger("guardian.store").info("not said")
        logging.getLogger("guardian.capture").debug("named %s", "a\x1b[2Jb\nc")
        logging.getLogger("guardian").warning("two\nlines")
        said = capsys.readouterr().err
    finally:
        root.handlers[:] = kept
        root.setLevel(level)
        logs.set_levels("info", {})
    assert said.splitlines() == ["<7>named a [2Jb", "<7>c", "<4>two", "<4>lines"]


def test_a_stream_into_the_journal_is_known_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stream").open("w", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        assert not logs.in_journal(stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert logs.in_journal(stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
        assert not logs.in_journal(stream)
    assert not logs.in_journal(io.StringIO())
