"""The archive form of a bundle: plain files and nothing else, byte for byte."""

import io
import shutil
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.contract import archive
from edge_agent.contract.archive import BLOCK, pack, unpack
from edge_agent.contract.errors import BundleError

FILES = {"manifest.json": b"{}", "model.onnx": bytes(range(256)) * 3, "empty": b"", "block": b"b" * BLOCK}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bundle.tar"


def unpacked(path, data):
    path.write_bytes(data)
    return unpack(path)


@settings(max_examples=40)
@given(st.dictionaries(st.text("aZ0._-", min_size=1, max_size=8).map("x".__add__), st.binary(max_size=1200), max_size=archive.MAX_FILES))
def test_unpacking_undoes_packing(tmp_path_factory, files):
    assert unpacked(tmp_path_factory.getbasetemp() / "some.tar", pack(files)) == files


def test_any_tar_can_read_it(path, tmp_path):
    path.write_bytes(pack(FILES))
    with tarfile.open(path) as tar:
        assert {member.name: tar.extractfile(member).read() for member in tar} == FILES
        assert all(member.isreg() and member.mode == 0o644 for member in tar)
    if shutil.which("tar"):
        done = subprocess.run(["tar", "-xvf", path, "-C", tmp_path], capture_output=True, text=True, check=True)
        assert (done.stdout.split(), done.stderr) == (sorted(FILES), "")


def made(change=lambda info: None, *, name="model.onnx", content=b"graph", kind=tarfile.USTAR_FORMAT):
    """An archive of one file as Python's tarfile writes it."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    change(info)
    return info.tobuf(kind) + content + bytes(-len(content) % BLOCK) + bytes(1024)


def of_type(kind, target=""):
    def change(info):
        info.type, info.linkname, info.size = kind, target, 0

    return made(change, content=b"")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(made(name="../../etc/passwd"), r"a file named '\.\./\.\./etc/passwd': a bundle's files have plain names", id="parent folder"),
        pytest.param(made(name="/etc/passwd"), "a file named '/etc/passwd'", id="absolute"),
        pytest.param(made(name="sub/model.onnx"), "a file named 'sub/model.onnx'", id="folder in the name"),
        pytest.param(made(name=".."), r"a file named '\.\.'", id="dots"),
        pytest.param(made(name=""), "a file named ''", id="no name"),
        pytest.param(made(name="a\nb"), r"a file named 'a\\nb'", id="line break"),
        pytest.param(made(name="x" * 150, kind=tarfile.GNU_FORMAT), "a long name", id="long name"),
        pytest.param(made(name="é" * 70, kind=tarfile.PAX_FORMAT), "a header that changes the next one", id="pax"),
        pytest.param(of_type(tarfile.SYMTYPE, "/etc/passwd"), "a symbolic link, 'model.onnx': a bundle holds plain files only", id="symbolic link"),
        pytest.param(of_type(tarfile.LNKTYPE, "manifest.json"), "a link, 'model.onnx'", id="hard link"),
        pytest.param(of_type(tarfile.DIRTYPE), "a folder", id="folder"),
        pytest.param(of_type(tarfile.CHRTYPE), "a device", id="device"),
        pytest.param(of_type(tarfile.FIFOTYPE), "a pipe", id="pipe"),
        pytest.param(of_type(tarfile.GNUTYPE_SPARSE), "a sparse file", id="sparse"),
        pytest.param(of_type(b"V"), "header of model.onnx is of another form", id="volume label"),
        pytest.param(made(lambda info: setattr(info, "size", 10 * 10**9), kind=tarfile.GNU_FORMAT), "model.onnx has more than 64 MiB", id="10 GB"),
        pytest.param(made(lambda info: setattr(info, "size", 2**33 - 1)), "model.onnx has more than 64 MiB", id="8 GB in octal"),
        pytest.param(made(lambda info: setattr(info, "size", -BLOCK), kind=tarfile.GNU_FORMAT), "more than 64 MiB", id="negative size"),
        pytest.param(made(lambda info: setattr(info, "mode", 0o4755)), "header of model.onnx is of another form", id="set-uid"),
        pytest.param(made(lambda info: setattr(info, "uid", 1000)), "of another form", id="owner"),
        pytest.param(pack({"a": b""})[:BLOCK] + pack({"a": b"2"}), "holds a twice", id="twice"),
        pytest.param(pack({f"f{i}": b"" for i in range(archive.MAX_FILES + 1)}), "more than 16 files", id="many files"),
        pytest.param(pack(FILES) + b"\0", "goes on after its end", id="longer"),
        pytest.param(
            pack({"a": b"x"})[: BLOCK + 1] + b"y" + pack({"a": b"x"})[BLOCK + 2 :], "bytes that belong to no file, after a", id="in the padding"
        ),
        pytest.param(pack({})[:BLOCK] + b"\1" * BLOCK, "truncated or goes on after its end", id="another end"),
        pytest.param(b"PK\3\4" + bytes(2000), "no archive of a bundle: a tar is expected", id="zip"),
        pytest.param(b"", "truncated between two files", id="nothing"),
    ],
)
def test_every_trick_is_refused_by_name(path, data, problem):
    with pytest.raises(BundleError, match=problem):
        unpacked(path, data)


def test_every_truncation_is_refused(path):
    whole = pack(FILES)
    for kept in range(0, len(whole), 100):
        with pytest.raises(BundleError, match="truncated"):
            unpacked(path, whole[:kept])


def test_every_changed_byte_is_refused_or_changes_a_file(path):
    whole = pack({"a": b"x" * 20})
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        try:
            assert unpacked(path, changed) != {"a": b"x" * 20}
        except BundleError:
            assert place not in range(BLOCK, BLOCK + 20)


def test_a_large_archive_is_refused_unread(path):
    with path.open("wb") as file:
        file.truncate(10 * 10**9)  # 10 GB of zeros that take no room on the disk
    with pytest.raises(BundleError, match="has 9536 MiB: a bundle has at most 64 MiB"):
        unpack(path)


def test_what_a_common_tar_packs_is_refused_and_says_what_to_do(path, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        (tmp_path / "model.onnx").write_bytes(b"graph")
        tar.add(tmp_path / "model.onnx", "model.onnx")
    with pytest.raises(BundleError, match=r"make the archive with hearthcast-export --out NAME\.tar"):
        unpacked(path, buffer.getvalue())
