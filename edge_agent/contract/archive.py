"""A bundle in one file: a tar, not compressed, so that nothing in it can grow, and byte for byte as `pack` writes it, so that nothing can hide in it.

`tar -xf` unpacks it; what `tar -cf` packs is refused, because there would be a hundred forms to check (links, sparse files, long names, devices).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

from edge_agent.contract.errors import BundleError

SUFFIX: Final = ".tar"
MAX_BYTES: Final = 64 * 2**20
"""Of a bundle, all its files together."""
MAX_FILES: Final = 16
BLOCK: Final = 512
_END: Final = b"\0" * (2 * BLOCK)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KINDS: Final = {
    "1": "a link",
    "2": "a symbolic link",
    "3": "a device",
    "4": "a device",
    "5": "a folder",
    "6": "a pipe",
    "S": "a sparse file",
    "x": "a header that changes the next one",
    "g": "a header that changes the next ones",
    "L": "a long name",
    "K": "a long link",
}
"""Type flags of tar other than '0', a plain file."""
_HINT: Final = "make the archive with hearthcast-export --out NAME.tar"


def pack(files: Mapping[str, bytes]) -> bytes:
    """The archive of `files`, by name: the same bytes for the same files."""
    parts = []
    for name, content in sorted(files.items()):
        parts += [_header(name, len(content)), content, bytes(-len(content) % BLOCK)]
    return b"".join([*parts, _END])


def unpack(path: Path) -> dict[str, bytes]:
    """The files of the archive at `path`, by name; nothing is written.

    Raises:
        BundleError: anything but an archive as `pack` writes it, or too large; the message names what is wrong.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if size > MAX_BYTES + (MAX_FILES + 1) * 2 * BLOCK:
            raise BundleError(f"{path} has {size >> 20} MiB: a bundle has at most {MAX_BYTES >> 20} MiB")
        try:
            return read(file)
        except BundleError as err:
            raise BundleError(f"{path}: {err}") from err


def read(file: IO[bytes]) -> dict[str, bytes]:
    """As `unpack`, of a file that was opened already."""
    files: dict[str, bytes] = {}
    while (head := file.read(BLOCK)) != _END[:BLOCK]:
        name, size = _parse(head)
        if name in files:
            raise BundleError(f"the archive holds {name} twice: {_HINT}")
        if len(files) == MAX_FILES:
            raise BundleError(f"the archive holds more than {MAX_FILES} files: this is no Hearthcast bundle")
        files[name] = file.read(size)
        if len(files[name]) + len(padding := file.read(-size % BLOCK)) < size + -size % BLOCK:
            raise BundleError(f"the archive is truncated within {name}: copy it again")
        if padding.strip(b"\0"):
            raise BundleError(f"the archive holds bytes that belong to no file, after {name}: {_HINT}")
    if file.read(BLOCK + 1) != _END[BLOCK:]:
        raise BundleError(f"the archive is truncated or goes on after its end: {_HINT}")
    return files


def _parse(head: bytes) -> tuple[str, int]:
    """Name and size of a file, from its header."""
    if len(head) < BLOCK:
        raise BundleError("the archive is truncated between two files: copy it again")
    if not head.startswith(b"ustar", 257):
        raise BundleError("this is no archive of a bundle: a tar is expected; " + _HINT)
    name = head[:100].rstrip(b"\0").decode("latin-1")
    kind = chr(head[156])
    if kind in _KINDS:
        raise BundleError(f"the archive holds {_KINDS[kind]}, {name!r}: a bundle holds plain files only; {_HINT}")
    if not _NAME.fullmatch(name):
        raise BundleError(f"the archive holds a file named {name!r}: a bundle's files have plain names, without folders; {_HINT}")
    size = int(head[124:135], 8) if re.fullmatch(rb"[0-7]{11}\0", head[124:136]) else MAX_BYTES + 1
    if size > MAX_BYTES:
        raise BundleError(f"the archive says that {name} has more than {MAX_BYTES >> 20} MiB: this is no Hearthcast bundle")
    if head != _header(name, size):
        raise BundleError(f"the archive's header of {name} is of another form: {_HINT}")
    return name, size


def _header(name: str, size: int) -> bytes:
    """Of a plain file without owner and time (POSIX ustar)."""
    fields = [name.encode("ascii").ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size, b"%011o\0" % 0]
    sum_field, kind, link = b" " * 8, b"0", bytes(100)
    rest = [b"ustar\x0000", bytes(32), bytes(32), b"0000000\0", b"0000000\0", bytes(155), bytes(12)]
    checksum = sum(b"".join([*fields, sum_field, kind, link, *rest]))
    return b"".join([*fields, b"%06o\0 " % checksum, kind, link, *rest])
