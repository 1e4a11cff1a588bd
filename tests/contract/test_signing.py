"""Ed25519 keys: made once, kept private, trusted by name."""

import base64
import stat
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448, rsa

from edge_agent.contract import signing
from edge_agent.contract.errors import ConfigError


def test_a_signature_names_its_signer(tmp_path):
    public = signing.create_key(tmp_path / "a.key")
    signature = signing.sign(b"data", signing.load_key(tmp_path / "a.key"))
    assert len(signature) == 96
    assert signing.signer_of(b"data", signature) == base64.b64decode(public)


@pytest.mark.parametrize(
    "change", [lambda s: s[:-1], lambda s: s + b"x", lambda s: bytes(96), lambda s: s[:40] + bytes([s[40] ^ 1]) + s[41:], lambda s: b""]
)
def test_a_signature_that_was_touched_has_no_signer(tmp_path, change):
    signing.create_key(tmp_path / "a.key")
    assert signing.signer_of(b"data", change(signing.sign(b"data", signing.load_key(tmp_path / "a.key")))) is None


@pytest.fixture
def no_library(monkeypatch):
    """As on a gateway, where nothing else has loaded the library."""
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)


def test_a_gateway_checks_in_a_process_of_its_own(tmp_path, request):
    public = signing.create_key(tmp_path / "a.key")
    signature = signing.sign(b"data", signing.load_key(tmp_path / "a.key"))
    request.getfixturevalue("no_library")
    assert signing.signer_of(b"data", signature) == base64.b64decode(public)
    assert signing.signer_of(b"Data", signature) is None
    assert "cryptography" not in sys.modules


def test_a_check_does_not_import_from_the_working_folder(tmp_path, monkeypatch, no_library):
    (tmp_path / "cryptography.py").write_text("print('valid')")
    monkeypatch.chdir(tmp_path)
    assert signing.signer_of(b"data", bytes(96)) is None


@pytest.mark.parametrize("python", ["no such program", "/bin/false"])
def test_where_no_process_can_be_started_the_check_is_made_here(tmp_path, monkeypatch, python):
    public = signing.create_key(tmp_path / "a.key")
    signature = signing.sign(b"data", signing.load_key(tmp_path / "a.key"))
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr(sys, "modules", {name: module for name, module in sys.modules.items() if name != "cryptography"})
    assert signing.signer_of(b"data", signature) == base64.b64decode(public)
    assert signing.signer_of(b"Data", signature) is None


def test_a_private_key_is_private_and_never_overwritten(tmp_path):
    public = signing.create_key(tmp_path / "deep" / "a.key")
    assert stat.S_IMODE((tmp_path / "deep" / "a.key").stat().st_mode) == 0o600
    assert (tmp_path / "deep" / "a.pub").read_text() == public + "\n"
    with pytest.raises(ConfigError, match=r"a\.key: the signing key cannot be written \(File exists\)"):
        signing.create_key(tmp_path / "deep" / "a.key")
    with pytest.raises(ConfigError, match="name the private key otherwise"):
        signing.create_key(tmp_path / "b.pub")


def test_trusted_keys_are_those_of_the_folders(tmp_path):
    publics = [signing.create_key(tmp_path / f"{name}.key") for name in "ab"]
    files = [signing.trust(public, folder=tmp_path / "trusted", name=name) for name, public in zip("ab", publics, strict=True)]
    keys = signing.trusted_keys((tmp_path / "gone", tmp_path / "trusted"))
    assert keys == {base64.b64decode(public): str(file) for public, file in zip(publics, files, strict=True)}


def test_two_workstations_keys_of_one_name_do_not_replace_each_other(tmp_path):
    first, second = (signing.create_key(tmp_path / f"{name}.key") for name in "ab")
    path = signing.trust(first, folder=tmp_path / "trusted", name="signing")
    assert signing.trust(first, folder=tmp_path / "trusted", name="signing") == path  # once more does no harm
    with pytest.raises(ConfigError, match=r"signing\.pub holds another key, which stays trusted"):
        signing.trust(second, folder=tmp_path / "trusted", name="signing")
    assert list(signing.trusted_keys((tmp_path / "trusted",))) == [base64.b64decode(first)]
    assert [file.name for file in (tmp_path / "trusted").iterdir()] == ["signing.pub"]


def test_a_workstation_that_lost_its_key_trusts_the_new_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    signing.workstation_key().unlink()
    (tmp_path / "hearthcast" / "signing.pub").unlink()
    key = signing.workstation_key()
    signer = signing.signer_of(b"x", signing.sign(b"x", signing.load_key(key)))
    assert list(signing.trusted_keys((signing.trusted_folders()[1],))) == [signer]


@pytest.mark.parametrize(("text", "problem"), [("§$%", "not a public key"), ("AAAA", "a public key of 3 bytes: 32 are expected"), ("", "0 bytes")])
def test_what_is_no_public_key_is_refused(tmp_path, text, problem):
    with pytest.raises(ConfigError, match=problem):
        signing.trust(text, folder=tmp_path, name="x")
    (tmp_path / "bad.pub").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.pub: .*" + problem):
        signing.trusted_keys((tmp_path,))


def test_the_workstation_trusts_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    key = signing.workstation_key()
    assert key == signing.workstation_key() == tmp_path / "hearthcast" / "signing.key"
    signer = signing.signer_of(b"x", signing.sign(b"x", signing.load_key(key)))
    assert signing.trusted_keys((signing.trusted_folders()[1],)) == {signer: str(tmp_path / "hearthcast" / "trusted" / "this-workstation.pub")}


@pytest.mark.parametrize("make", [ed448.Ed448PrivateKey.generate, lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024)])
def test_other_kinds_of_key_are_refused(tmp_path, make):
    pem = make().private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "other.key").write_bytes(pem)
    with pytest.raises(ConfigError, match="not an Ed25519 key"):
        signing.load_key(tmp_path / "other.key")
    (tmp_path / "other.key").write_bytes(pem[:50])
    with pytest.raises(ConfigError, match="no readable signing key"):
        signing.load_key(tmp_path / "other.key")
