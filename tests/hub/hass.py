"""A real Home Assistant of this test's own: configured, onboarded, asked by its REST interface."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.broker import free_port, until

CACHE = Path(os.environ.get("GUARDIAN_HUB_CACHE") or Path.home() / ".cache" / "guardian-hub")
CLIENT = "http://127.0.0.1/"

PHONE = '''"""A phone: writes down what it is told."""

import json
from pathlib import Path


async def async_setup(hass, config):
    told = Path(__file__).parent.parent.parent / "phone.jsonl"

    def write(call):
        with told.open("a") as file:
            file.write(json.dumps(dict(call.data)) + "\\n")

    async def tell(call):
        await hass.async_add_executor_job(write, call)

    hass.services.async_register("notify", "phone", tell)
    return True
'''
MANIFEST = {
    "domain": "phone", "name": "Phone", "version": "1.0.0", "documentation": CLIENT,
    "codeowners": [], "dependencies": [], "requirements": [], "iot_class": "local_push",
}  # fmt: skip
CONFIGURATION = """
homeassistant:
  name: Test
  latitude: 50.0
  longitude: 8.0
  elevation: 100
  unit_system: metric
  time_zone: UTC
  country: DE
  language: en
http:
  server_host: 127.0.0.1
  server_port: {port}
frontend:
phone:
automation: !include automations.yaml
"""
SOCKET = """
import asyncio, json, sys
import aiohttp

async def ask(port, token, words):
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"http://127.0.0.1:{port}/api/websocket") as line:
            await line.receive_json()
            await line.send_json({"type": "auth", "access_token": token})
            await line.receive_json()
            await line.send_json({"id": 1} | words)
            return await line.receive_json()

print(json.dumps(asyncio.run(ask(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))))
"""


@dataclass
class Hass:
    """One installation; its folder lies in the root where there is one."""

    broker_port: int
    port: int = field(default_factory=free_port)
    token: str = ""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.root = CACHE / "root" if (CACHE / "root").exists() else Path("/")
        self.folder = CACHE / "root" / "config" if self.root != Path("/") else CACHE / "config"
        shutil.rmtree(self.folder, ignore_errors=True)
        storage = self.folder / ".storage"
        storage.mkdir(parents=True)
        (self.folder / "configuration.yaml").write_text(CONFIGURATION.format(port=self.port))
        phone = self.folder / "custom_components" / "phone"
        phone.mkdir(parents=True)
        (phone / "__init__.py").write_text(PHONE)
        (phone / "manifest.json").write_text(json.dumps(MANIFEST))
        (self.folder / "automations.yaml").write_text("[]\n")
        made = "2026-01-01T00:00:00+00:00"
        entry: dict[str, Any] = {
            "created_at": made, "modified_at": made, "disabled_by": None, "discovery_keys": {},
            "data": {"broker": "127.0.0.1", "port": self.broker_port}, "domain": "mqtt",
            "entry_id": "01GUARDIANTEST", "version": 2, "minor_version": 1, "options": {},
            "pref_disable_new_entities": False, "pref_disable_polling": False, "source": "user",
            "subentries": [], "title": "broker", "unique_id": None,
        }  # fmt: skip
        entries = {
            "version": 1, "minor_version": 5, "key": "core.config_entries",
            "data": {"entries": [entry]},
        }  # fmt: skip
        (storage / "core.config_entries").write_text(json.dumps(entries))

    @property
    def log(self) -> str:
        path = self.folder / "out.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it and wait until it answers; the first time with a user of its own."""
        folder = str(self.folder) if self.root == Path("/") else "/config"
        words = [*self._program("hass"), "-c", folder, "--skip-pip"]
        with (self.folder / "out.log").open("ab") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT)
        until(self._answers, f"Home Assistant answers: {self.log[-2000:]}", 180)
        if not self.token:
            self._onboard()

    def _program(self, name: str) -> list[str]:
        if self.root == Path("/"):
            return [str(CACHE / "venv" / "bin" / name)]
        return ["chroot", str(self.root), f"/venv/bin/{name}"]

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log[-4000:]
        try:
            self.ask("GET", "/manifest.json")
        except (OSError, urllib.error.URLError):
            return False
        return True

    def _onboard(self) -> None:
        user = {
            "client_id": CLIENT, "name": "T", "username": "t", "password": "t", "language": "en",
        }  # fmt: skip
        code = self.ask("POST", "/api/onboarding/users", user)["auth_code"]
        form = {"grant_type": "authorization_code", "code": code, "client_id": CLIENT}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/auth/token", urllib.parse.urlencode(form).encode()
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            self.token = json.load(answer)["access_token"]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON of an answer of its REST interface."""
        head = {"Content-Type": "application/json"}
        if self.token:
            head["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            head,
            method=method,
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read().decode()
        return json.loads(text) if answer.headers.get_content_type() == "application/json" else text

    def command(self, **words: Any) -> Any:
        """Return the result of a command of its websocket, as its pages send them."""
        python = [*self._program("python"), "-c", SOCKET, str(self.port), self.token]
        done = subprocess.run(
            [*python, json.dumps(words)], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer["success"], answer
        return answer["result"]

    def render(self, template: str) -> str:
        """Return what a template gives now."""
        return str(self.ask("POST", "/api/template", {"template": template}))

    def do(self, action: str, **data: Any) -> None:
        """Call an action, as a person's tap does."""
        self.ask("POST", f"/api/services/{action.replace('.', '/')}", data)

    def states(self) -> dict[str, Any]:
        """Return all states by entity id."""
        return {state["entity_id"]: state for state in self.ask("GET", "/api/states")}

    def state(self, entity: str) -> str:
        """Return an entity's state; empty where there is none."""
        found = self.states().get(entity)
        return str(found["state"]) if found else ""

    def wait(self, entity: str, good: Callable[[str], bool], what: str, wait_s: float = 60) -> None:
        until(lambda: good(self.state(entity)), f"{what} ({entity})", wait_s)

    def phone(self) -> list[dict[str, Any]]:
        """Return what the phone was told."""
        told = self.folder / "phone.jsonl"
        return [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []

    def stop(self) -> None:
        """End it cleanly, which writes its registries."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def registry(self, name: str) -> list[dict[str, Any]]:
        """Return the entries of a registry, `entity` or `device`, as they lie on its disk."""
        text = (self.folder / ".storage" / f"core.{name}_registry").read_text()
        entries: list[dict[str, Any]] = json.loads(text)["data"][
            "entities" if name == "entity" else "devices"
        ]
        return entries
