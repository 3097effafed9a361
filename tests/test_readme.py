"""The README says what is so: its figures, its commands, its files."""

from __future__ import annotations

import json
import re

from click.testing import CliRunner

from guardian import bundle
from guardian.cli import cli
from tests.conftest import ROOT
from trainer.readme import filled

README = (ROOT / "README.md").read_text(encoding="utf-8")
REPORT = json.loads((ROOT / "docs" / "detection.json").read_text(encoding="utf-8"))


def test_its_table_is_that_of_the_last_evaluation() -> None:
    assert filled(README, REPORT) == README, "run python -m trainer.readme"


def test_the_evaluation_judged_the_shipped_bundle() -> None:
    assert REPORT["bundle"]["digest"] == bundle.load(bundle.default_path()).digest


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_its_commands_exist() -> None:
    named = set(re.findall(r"^guardian ([a-z]+)", README, re.MULTILINE))
    assert {"replay", "conns", "score", "simulate", "devices", "alerts", "explain"} <= named
    for name in named:
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0, name


def test_its_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
