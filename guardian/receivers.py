"""Receivers of incidents beside the hub, each off until it is switched on: webhook, push, syslog,
a file of EVE-JSON. They are called in a thread of their own (outlets.py) and may wait."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from guardian import extras
from guardian.config import NotifySettings
from guardian.errors import ConfigError
from guardian.outbox import encode
from guardian.outlets import Failed, Receiver
from guardian.siem import USER_AGENT, Payload, eve, push, syslog

WAIT_S = 10.0
"""Seconds that a receiver may take to answer."""

FILE_MODE = 0o640
"""As the database: the group reads."""


ALL: tuple[str, ...] = ("opened", "escalated", "closed")
NEWS: tuple[str, ...] = ("opened", "escalated")
"""What a phone rings for."""


def receivers(settings: NotifySettings) -> list[Receiver]:
    """Return the receivers that the settings switch on. Raises ConfigError with a sentence."""
    out: list[Receiver] = []
    if settings.webhook:
        out.append(Webhook(settings.webhook, settings.webhook_token_file))
    if settings.push:
        out.append(Push(settings.push))
    if settings.syslog:
        out.append(Syslog(settings.syslog, settings.syslog_form))
    if settings.eve:
        out.append(EveFile(settings.eve))
    return out


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is told of a home goes where its owner said, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Webhook:
    """POSTs JSON, the same that MQTT carries."""

    name = "webhook"
    changes = ALL

    def __init__(self, url: str, token_file: str = "") -> None:
        parts = urllib.parse.urlsplit(url)
        try:
            good = parts.scheme in ("http", "https") and bool(parts.hostname)
            _ = parts.port  # raises for one that is no number
        except ValueError:
            good = False
        if not good or any(c.isspace() for c in url):
            raise ConfigError(
                "notify.webhook is no address: write it like https://192.168.1.9/guardian"
            )
        self._url, self._token = url, ""
        if token_file:
            try:
                self._token = Path(token_file).read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"cannot read notify.webhook_token_file {token_file}: give the user that runs "
                    "guardian the right to read it"
                ) from error
        # No proxy of the environment, no redirect.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

    def send(self, incident: Payload) -> None:
        head = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
        if self._token:
            head["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(
            self._url, encode(incident).encode("ascii"), head, method="POST"
        )
        try:
            with self._opener.open(request, timeout=WAIT_S):
                return
        except urllib.error.HTTPError as error:
            error.close()
            # Busy, or away for a while; everything else would be refused again.
            again = error.code in (408, 425, 429) or error.code >= 500
            raise Failed(f"it answered {error.code}", again=again) from error
        except (OSError, ValueError) as error:
            raise Failed(_why(error)) from error


class Push:
    """Phones, through Apprise, which is only loaded here."""

    name = "push"
    changes = NEWS

    def __init__(self, urls: tuple[str, ...]) -> None:
        try:
            import apprise  # noqa: PLC0415 - an extra, loaded where it is switched on
        except ImportError as error:
            raise ConfigError(f"notify.push needs Apprise: {extras.command('apprise')}") from error
        self._kinds = {"high": apprise.NotifyType.FAILURE, "medium": apprise.NotifyType.WARNING}
        self._info = apprise.NotifyType.INFO
        # The text is hostile until proven otherwise: nothing in it is an escape or a path.
        self._apprise = apprise.Apprise(
            asset=apprise.AppriseAsset(app_id="Guardian", interpret_escapes=False)
        )
        for number, url in enumerate(urls, 1):
            if not self._apprise.add(url):
                raise ConfigError(
                    f"notify.push: Apprise does not know the {number}. address; write it as its "
                    "documents say, like ntfys://my-topic"
                )

    def send(self, incident: Payload) -> None:
        title, text = push(incident)
        kind = self._kinds.get(incident["severity"], self._info)
        try:
            done = self._apprise.notify(
                body=text, title=title, notify_type=kind, body_format="text"
            )
        except Exception as error:  # a plugin of a library may raise anything
            raise Failed(_why(error)) from error
        if not done:
            raise Failed("the service did not take it")


class Syslog:
    """A syslog server, by UDP (a datagram may get lost) or TCP (RFC 6587, octets counted)."""

    name = "syslog"
    changes = ALL

    def __init__(self, address: str, form: str = "text") -> None:
        text = address if "://" in address else f"udp://{address}"
        parts = urllib.parse.urlsplit(text)
        try:
            port = parts.port or 514
            good = parts.scheme in ("udp", "tcp") and bool(parts.hostname) and not parts.path
        except ValueError:
            good = False
        if not good:
            raise ConfigError(
                f"notify.syslog = {address!r} is no address: write it like 192.168.1.9:514 or "
                "tcp://192.168.1.9:514"
            )
        self._where = (str(parts.hostname), port)
        self._tcp, self._form = parts.scheme == "tcp", form

    def send(self, incident: Payload) -> None:
        message = syslog(incident, self._form)
        try:
            if self._tcp:
                with socket.create_connection(self._where, WAIT_S) as line:
                    line.sendall(b"%d %s" % (len(message), message))
                return
            found = socket.getaddrinfo(*self._where, type=socket.SOCK_DGRAM)[0]
            with socket.socket(found[0], found[1]) as line:
                line.sendto(message, found[4])
        except OSError as error:
            raise Failed(_why(error)) from error


class EveFile:
    """A file that grows by a line for each; opened each time, so that logrotate may move it."""

    name = "eve"
    changes = ALL

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        if not self._path.is_absolute() or not self._path.parent.is_dir() or self._path.is_dir():
            raise ConfigError(
                f"notify.eve = {path!r} is no file in a folder that exists: write it like "
                "/var/lib/guardian/eve.json"
            )

    def send(self, incident: Payload) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._path, flags, FILE_MODE)
            try:
                os.write(fd, (eve(incident) + "\n").encode("ascii"))
            finally:
                os.close(fd)
        except OSError as error:
            raise Failed(_why(error)) from error


def _why(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)[:200]
