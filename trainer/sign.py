"""Sign a bundle's manifest on the workstation, as `minisign -S` would.

Keys are those of the minisign tool (`minisign -G -W`: without a password), or made here with
`python -m trainer.sign NAME`. One with a password is left to the tool itself:
`minisign -S -s KEY -m BUNDLE/manifest.json`. Signing is plain Python and not hardened against
somebody who measures this machine's time while it signs.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from pathlib import Path

import click

from guardian import bundle as bundles
from guardian import ed25519, minisign
from guardian.errors import GuardianError, InputError

_HEAD = b"Ed" + b"\0\0" + b"B2" + bytes(48)
"""Ed25519, no password, BLAKE2b; salt and limits of the password's function are zero."""


def make(path: Path) -> minisign.Key:
    """Write a new pair of keys, PATH (for the workstation alone) and PATH.pub, and return the
    public one. Raises InputError where either is there.
    """
    public_path = path.with_name(path.name + ".pub")
    for file in (path, public_path):
        if file.exists():
            raise InputError(f"{file} is there: a new key would make what it signed worthless")
    seed, number = secrets.token_bytes(32), secrets.token_bytes(8)
    public = _public(seed)
    check = hashlib.blake2b(b"Ed" + number + seed + public, digest_size=32).digest()
    secret = base64.b64encode(_HEAD + number + seed + public + check).decode("ascii")
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as out:
        out.write(f"untrusted comment: minisign secret key\n{secret}\n")
    key = minisign.Key(number, public)
    public_path.write_text(
        f"untrusted comment: minisign public key {key.name}\n{key.line}\n", encoding="ascii"
    )
    return key


def sign(folder: Path, key_file: Path) -> minisign.Key:
    """Sign a bundle and return the public key that verifies it.

    Raises InputError where the key cannot be used, BundleError where there is no sound bundle.
    """
    made = bundles.load(folder)
    key, seed = _read(key_file)
    comment = f"guardian bundle {made.name} {made.version}"
    message = hashlib.blake2b((folder / bundles.MANIFEST).read_bytes()).digest()
    first = _signature(seed, message)
    last = _signature(seed, first + comment.encode("utf-8"))
    text = (
        f"untrusted comment: signature of {bundles.MANIFEST} by key {key.name}\n"
        f"{base64.b64encode(b'ED' + key.id + first).decode('ascii')}\n"
        f"{minisign.TRUSTED}{comment}\n{base64.b64encode(last).decode('ascii')}\n"
    )
    (folder / bundles.SIGNATURE).write_text(text, encoding="utf-8")
    bundles.load(folder, key=key.line)
    return key


def _read(path: Path) -> tuple[minisign.Key, bytes]:
    """Return the public key and the seed of a secret key's file."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        raw = base64.b64decode(lines[1])
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{path} is no minisign key: make one with minisign -G -W") from error
    if len(raw) != 158 or raw[:2] != b"Ed":
        raise InputError(f"{path} is no minisign key: make one with minisign -G -W")
    if raw[2:4] != b"\0\0":
        raise InputError(
            f"{path} has a password: sign with `minisign -S -s {path} -m {bundles.MANIFEST}`"
        )
    number, seed, public = raw[54:62], raw[62:94], raw[94:126]
    if public != _public(seed):
        raise InputError(f"{path} is damaged: its halves do not fit")
    return minisign.Key(number, public), seed


def _scalar(seed: bytes) -> tuple[int, bytes]:
    """Return the secret number of a seed and the bytes that its nonces come from."""
    raw = hashlib.sha512(seed).digest()
    number = int.from_bytes(raw[:32], "little")
    return (number & (1 << 254) - 8) | 1 << 254, raw[32:]


def _public(seed: bytes) -> bytes:
    return ed25519.encoded(ed25519.multiplied(_scalar(seed)[0], ed25519.BASE))


def _signature(seed: bytes, message: bytes) -> bytes:
    number, prefix = _scalar(seed)
    nonce = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % ed25519.L
    r = ed25519.encoded(ed25519.multiplied(nonce, ed25519.BASE))
    s = (nonce + ed25519.challenge(r, _public(seed), message) * number) % ed25519.L
    return r + s.to_bytes(32, "little")


@click.command(name="python -m trainer.sign")
@click.argument("path", metavar="NAME", type=click.Path(path_type=Path))
def main(path: Path) -> None:
    """Make a pair of keys, NAME and NAME.pub, to sign bundles with."""
    try:
        key = make(path)
    except GuardianError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f'Wrote {path} and {path}.pub. On the gateway: [model] key = "{key.line}"')


if __name__ == "__main__":
    main()
