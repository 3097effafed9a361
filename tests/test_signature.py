"""Signatures: RFC 8032's own vectors, files of the minisign tool, bundles with and without one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from guardian import bundle, config, ed25519, minisign
from guardian.cli import cli
from guardian.errors import BundleError, ConfigError, InputError
from tests import bundles
from trainer import sign

NAMES = ("gap", "size", "share")

VECTORS = [  # RFC 8032, 7.1: secret, public, message, signature
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701c"
        "f9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0"
        "f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f76098"
        "4dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]

# Made by minisign 0.11: of b"hello\n", hashed first and, as it once was, not.
KEY = "RWSFMvKll4DKaYDlzLEcIi8XHH/fvnZtrTTVr/6j124NibFUFZKEoXmh"
HASHED = b"""untrusted comment: signature from minisign secret key
RUSFMvKll4DKaSAMbA1S9CLg+Rc6aMGbP3Wyz1FM64hP4HpgeHEnastsglsY6vPlsS031v/fZY2I67PQN3Y8O36tRk0xdK2YMQg=
trusted comment: guardian bundle
652+dC4/1q7X029eQR/AbaBNuTP4W75pUIw1e0sPIuE4KbIEyoBQ5K1J5N2AXRvLYEV5uMdNx+TJLoAQgCNXAw==
"""
PLAIN = b"""untrusted comment: signature from minisign secret key
RWSFMvKll4DKaZushtD7wbn0w2Hvd+lXb5Pj5ZCKqyZU6vfK2KpgO0Ji6Fv8tIi7QuGYzlhALZ4yMy/XJn2+OVbCR0rsfd5Xjwc=
trusted comment: timestamp:1795325065	file:m
apyB7WoteCheNoIWzBurn1dq8XYFUguuMrAv06c2LfpRUuMB1hq8RD8Ti/fuYvTnc4iMzHVWMXYnqj96PD6uCQ==
"""


@pytest.mark.parametrize("vector", VECTORS)
def test_the_vectors_of_the_standard(vector: tuple[str, str, str, str]) -> None:
    secret, public, message, signature = (bytes.fromhex(part) for part in vector)
    assert ed25519.verify(public, message, signature)
    assert sign._public(secret) == public
    assert sign._signature(secret, message) == signature
    assert not ed25519.verify(public, message + b"x", signature)
    for place in (0, 31, 32, 63):
        other = bytearray(signature)
        other[place] ^= 1
        assert not ed25519.verify(public, message, bytes(other))


def test_what_only_looks_like_a_signature_is_refused() -> None:
    _, public, message, signature = (bytes.fromhex(part) for part in VECTORS[1])
    s = int.from_bytes(signature[32:], "little")
    malleable = signature[:32] + (s + ed25519.L).to_bytes(32, "little")
    assert not ed25519.verify(public, message, malleable)
    assert not ed25519.verify(public, message, signature[:-1])
    assert not ed25519.verify(public[:-1], message, signature)
    # A key of order 1 or 2 would bless R = S B whatever the message.
    blessed = ed25519.encoded(ed25519.BASE) + (1).to_bytes(32, "little")
    for weak in (1, ed25519.P - 1):
        assert not ed25519.verify(weak.to_bytes(32, "little"), b"any", blessed)
    assert ed25519.decoded(ed25519.P.to_bytes(32, "little")) is None  # 0, written as no 0 is
    assert ed25519.decoded((1 | 1 << 255).to_bytes(32, "little")) is None  # x = -0
    assert ed25519.decoded((2).to_bytes(32, "little")) is None  # on no curve


def test_files_of_the_tool_are_understood() -> None:
    key = minisign.key_of(KEY)
    assert key == minisign.key_of(f"untrusted comment: minisign public key X\n{KEY}\n")
    assert (key.name, key.line) == ("69CA8097A5F23285", KEY)
    assert minisign.verify(key, b"hello\n", HASHED) == "guardian bundle"
    assert minisign.verify(key, b"hello\n", PLAIN).startswith("timestamp")
    for content, signature, says in (
        (b"hallo\n", HASHED, "does not fit the manifest"),
        (b"hello\n", HASHED.replace(b"guardian bundle", b"guardian bungle"), "comment was changed"),
        (b"hello\n", HASHED.replace(b"RUSF", b"RUSG"), "signed with the key"),
        (b"hello\n", HASHED.replace(b"RUSF", b"RVSF"), "no minisign file"),
        (b"hello\n", HASHED[:100], "no minisign file"),
        (b"hello\n", b"", "no minisign file"),
        (b"hello\n", b"\xff" * 10_000, "no minisign file"),
    ):
        with pytest.raises(BundleError, match=says):
            minisign.verify(key, content, signature)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("keys") / "home"
    return path, sign.make(path).line


@pytest.fixture
def signed(tmp_path: Path, pair: tuple[Path, str]) -> Path:
    folder = bundles.write_constant(tmp_path / "b")
    sign.sign(folder, pair[0])
    return folder


def test_a_signed_bundle_is_loaded_and_no_other(signed: Path, pair: tuple[Path, str]) -> None:
    key = pair[1]
    assert bundle.load(signed, key=key).digest == bundle.load(signed).digest
    with pytest.raises(BundleError, match="signed with the key"):
        bundle.load(signed, key=KEY)
    path = signed / bundle.MANIFEST
    path.write_text(path.read_text().replace("by-hand", "by-hoof"))
    with pytest.raises(BundleError, match="does not fit the manifest"):
        bundle.load(signed, key=key)
    (signed / bundle.SIGNATURE).unlink()
    with pytest.raises(BundleError, match="is not signed, and the settings name a key"):
        bundle.load(signed, key=key)
    bundle.load(signed)


def test_the_tool_verifies_what_we_sign_and_reads_our_keys(
    signed: Path, pair: tuple[Path, str]
) -> None:
    tool = shutil.which("minisign")
    if tool is None:
        pytest.skip("minisign is not installed")
    given = [tool, "-p", f"{pair[0]}.pub", "-m", str(signed / bundle.MANIFEST)]
    done = subprocess.run([*given, "-V"], capture_output=True, text=True, check=True)
    assert "guardian bundle by-hand 0" in done.stdout
    subprocess.run([*given, "-S", "-s", str(pair[0])], capture_output=True, check=True)
    assert bundle.load(signed, key=pair[1])


def test_keys_are_made_once_and_only_sound_ones_sign(tmp_path: Path) -> None:
    path = tmp_path / "key"
    sign.make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="is there"):
        sign.make(path)
    text = path.read_text()
    folder = bundles.write_constant(tmp_path / "b")
    for wrong, says in (
        ("nothing", "no minisign key"),
        (text.replace("RWQAAEIy", "RWRTY0Iy"), "has a password"),
        (text[:-20] + "\n", "no minisign key"),
    ):
        path.write_text(wrong)
        with pytest.raises(InputError, match=says):
            sign.sign(folder, path)
    assert not (folder / bundle.SIGNATURE).exists()


def test_a_bundle_is_signed_by_a_command(tmp_path: Path) -> None:
    folder = str(bundles.write_constant(tmp_path / "b"))
    made = CliRunner().invoke(sign.main, [str(tmp_path / "key")])
    assert made.exit_code == 0
    key = made.output.split('"')[1]
    done = CliRunner().invoke(
        cli, ["export", folder, "-o", folder, "--sign", str(tmp_path / "key")]
    )
    assert done.exit_code == 0, done.output
    assert bundle.load(Path(folder), key=key)


def test_the_settings_refuse_what_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "guardian.toml"
    path.write_text(f'[model]\nkey = "{KEY}"\n')
    assert config.load(path, {}).model.key == KEY
    path.write_text(f'[model]\nkey = "{KEY[:-4]}"\n')
    with pytest.raises(ConfigError, match=r"line 2.*minisign key"):
        config.load(path, {})
