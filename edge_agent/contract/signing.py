"""Ed25519 keys and signatures. A workstation signs what it exports; a gateway trusts the public keys that its owner put there."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_agent.contract.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_BYTES, SIGNATURE_BYTES = 32, 64
SYSTEM_KEYS: Final = Path("/etc/hearthcast/keys")
CHECK_TIMEOUT_S: Final = 20.0


def config_dir() -> Path:
    """Where a user's keys lie: `$XDG_CONFIG_HOME/hearthcast`, by default `~/.config/hearthcast`."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hearthcast"


def trusted_folders() -> tuple[Path, ...]:
    """Folders whose `*.pub` files this machine trusts; a service user without a home has the system's only."""
    try:
        return SYSTEM_KEYS, config_dir() / "trusted"
    except RuntimeError:
        return (SYSTEM_KEYS,)


def create_key(path: Path) -> str:
    """Write a new private key to `path` (mode 0600) and its public key beside it (`.pub`); returns the public key as text.

    Raises:
        ConfigError: the file exists already, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if path.suffix == ".pub":
        raise ConfigError(f"{path}: the public key will be written there; name the private key otherwise")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = public_text(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        path.with_suffix(".pub").write_text(public + "\n", encoding="ascii")
    except OSError as err:
        raise ConfigError(f"{path}: the signing key cannot be written ({err.strerror}); name another file") from err
    return public


def workstation_key() -> Path:
    """The key that this user's exports are signed with; made on first use, and trusted by agents of the same user on the same machine."""
    path = config_dir() / "signing.key"
    if not path.exists():
        trust(create_key(path), folder=config_dir() / "trusted", name="this-workstation", replace=True)
    return path


def trust(public: str, *, folder: Path, name: str, replace: bool = False) -> Path:
    """Trust a public key (as text): write it to `folder/name.pub`, whole or not at all.

    Raises:
        ConfigError: not a public key, another one has that name already (unless `replace`), or the file cannot be written.
    """
    key = _decode(public, source=name)
    path = folder / f"{name}.pub"
    if path.exists() and not replace and _read_public(path) != key:
        raise ConfigError(f"{path} holds another key, which stays trusted: name the new one's file otherwise, or remove the old one")
    fresh = path.with_suffix(".new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with fresh.open("w", encoding="ascii") as file:
            file.write(public.strip() + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be written ({err.strerror}); run as the user who owns it") from err
    return path


def trusted_keys(folders: tuple[Path, ...] | None = None) -> dict[bytes, str]:
    """Trusted public keys (32 bytes) and the file each comes from.

    Raises:
        ConfigError: a `*.pub` file that cannot be read or holds no public key.
    """
    keys: dict[bytes, str] = {}
    for folder in trusted_folders() if folders is None else folders:
        if folder.is_dir():
            for path in sorted(folder.glob("*.pub")):
                keys[_read_public(path)] = str(path)
    return keys


def _read_public(path: Path) -> bytes:
    try:
        return _decode(path.read_text(encoding="ascii", errors="replace"), source=str(path))
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read ({err.strerror}); make it readable for the agent's user, or remove it") from err


def _decode(text: str, *, source: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError as err:
        raise ConfigError(f"{source}: not a public key: one line of base64 is expected (hearthcast-agent keys show)") from err
    if len(key) != PUBLIC_BYTES:
        raise ConfigError(f"{source}: a public key of {len(key)} bytes: {PUBLIC_BYTES} are expected (hearthcast-agent keys show)")
    return key


def load_key(path: Path) -> Ed25519PrivateKey:
    """The private key in the PEM file `path`.

    Raises:
        ConfigError: unreadable, or not an Ed25519 key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as err:
        raise ConfigError(f"{path}: no readable signing key ({err}); make one with: hearthcast-agent keys new {path}") from err
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: not an Ed25519 key; make one with: hearthcast-agent keys new FILE")
    return key


def public_text(key: Ed25519PrivateKey) -> str:
    """The public half, as the one line of base64 that `keys trust` takes."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def sign(data: bytes, key: Ed25519PrivateKey) -> bytes:
    """Public key and signature of `data`, 96 bytes."""
    return key.public_key().public_bytes_raw() + key.sign(data)


def signer_of(data: bytes, signature: bytes) -> bytes | None:
    """The public key (32 bytes) that made `signature` (as `sign` returns it) over `data`; None when it does not fit."""
    if len(signature) != PUBLIC_BYTES + SIGNATURE_BYTES:
        return None
    public, own = signature[:PUBLIC_BYTES], signature[PUBLIC_BYTES:]
    valid = None if "cryptography" in sys.modules else _is_valid_apart(public, own, data)
    if valid is None:
        valid = _is_valid(public, own, data)
    return public if valid else None


def _is_valid(public: bytes, signature: bytes, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


_CHECK: Final = """
import sys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
read = sys.stdin.buffer.read
try:
    Ed25519PublicKey.from_public_bytes(read(32)).verify(read(64), read())
except (InvalidSignature, ValueError):
    print("invalid")
else:
    print("valid")
"""


def _is_valid_apart(public: bytes, signature: bytes, data: bytes) -> bool | None:
    """As `_is_valid`, in a process of its own that takes the library's 9 MB of memory along when it ends; None when that did not work."""
    import subprocess

    command = [sys.executable, "-P", "-c", _CHECK]  # -P: nothing is imported from the folder that the agent happens to stand in
    try:
        done = subprocess.run(command, input=public + signature + data, capture_output=True, timeout=CHECK_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {b"valid": True, b"invalid": False}.get(done.stdout.strip())
