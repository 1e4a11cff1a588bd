"""Fetches one file over HTTPS: goes on where it was cut off, never takes more than the limit, follows no way out of HTTPS."""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from edge_agent import __version__
from edge_agent.contract.errors import BundleError, ConfigError

TIMEOUT_S: Final = 30.0
"""Without a byte for so long, the connection counts as lost."""
TRIES: Final = 5
WAIT_S: Final = 2.0
"""Before the second try; twice as long before each further one."""
CHUNK: Final = 64 * 1024


@dataclass(frozen=True)
class Partial:
    """A download that may have been begun: the bytes so far, and what tells whether the server's file is still the same."""

    path: Path

    @property
    def mark(self) -> Path:
        """Holds the server's validator (ETag or Last-Modified), which belongs to the bytes."""
        return self.path.with_suffix(".mark")

    def size(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self) -> str | None:
        """None when the bytes are worth nothing, because nobody can tell what they are part of."""
        try:
            return str(json.loads(self.mark.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def begin(self, validator: str | None) -> None:
        """Forget what is there: another file follows."""
        self.remove()
        if validator is not None:
            self.mark.write_text(json.dumps(validator), encoding="utf-8")

    def remove(self) -> None:
        """Bytes first: a mark without bytes does no harm."""
        self.path.unlink(missing_ok=True)
        self.mark.unlink(missing_ok=True)


def partial_of(url: str, folder: Path) -> Partial:
    """Where the download of `url` goes on."""
    return Partial(folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.part")


def download(url: str, folder: Path, *, limit: int) -> Iterator[str]:
    """Fetch `url` into its `partial_of`, trying again where that may help; yields what happens, in words.

    Raises:
        ConfigError: not an https URL.
        BundleError: refused by the server, larger than `limit` bytes, or cut off too often; what has arrived is kept for the next time.
    """
    check_url(url)
    partial = partial_of(url, folder)
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(TRIES):
        if attempt:
            yield f"cut off after {partial.size() / 1e6:.2f} MB, going on in {WAIT_S * 2 ** (attempt - 1):g} s"
            time.sleep(WAIT_S * 2 ** (attempt - 1))
        try:
            yield from _fetch(url, partial, limit=limit)
            return
        except HTTPError as err:
            err.close()
            if err.code < 500:
                raise BundleError(f"{url}: the server answers {err.code} {err.reason}: look at the address") from err
            problem: Exception = err
        except (OSError, HTTPException) as err:
            if isinstance(getattr(err, "reason", err), ssl.SSLCertVerificationError):
                raise BundleError(f"{url}: the server's certificate is not trusted ({err}): SSL_CERT_FILE may name your own authority") from err
            problem = err
    raise BundleError(f"{url}: not fetched in {TRIES} tries ({problem}): look at the connection and run the command again; it goes on where it was")


def check_url(url: str) -> None:
    """Only HTTPS proves who answers.

    Raises:
        ConfigError: anything else.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ConfigError(f"{url}: https://HOST/… is expected; fetch the file by other means and install it from the disk")
    if parts.username is not None:
        raise ConfigError(f"{parts.scheme}://{parts.hostname}: no user or password in an address, it ends up in logs; fetch the file by other means")


def _fetch(url: str, partial: Partial, *, limit: int) -> Iterator[str]:
    """One try. Raises HTTPError, HTTPException, OSError, BundleError."""
    validator, begun = partial.validator(), partial.size()
    headers = {"User-Agent": f"hearthcast/{__version__}", "Accept-Encoding": "identity"}
    if validator is not None and begun:
        headers |= {"Range": f"bytes={begun}-", "If-Range": validator}
    try:
        response = _opener().open(Request(url, headers=headers), timeout=TIMEOUT_S)  # noqa: S310  check_url, and the opener knows https alone
    except HTTPError as err:
        if err.code == 416 and err.headers.get("Content-Range") == f"bytes */{begun}" and begun:
            err.close()
            return  # all of it had arrived
        if err.code == 416:
            partial.remove()
            raise ConnectionError("the server's file is another one now") from err
        raise
    with response:
        total: int | None
        if response.status == 206:
            total = _total_after(response, begun)
            yield f"going on after {begun / 1e6:.2f} MB"
        else:
            total = _length(response)
            tag = response.headers.get("ETag", "W/")
            partial.begin(response.headers.get("Last-Modified") if tag.startswith("W/") else tag)  # a weak tag does not vouch for single bytes
        _take(response, partial, total=total, limit=limit, url=url)


def _take(response: IO[bytes], partial: Partial, *, total: int | None, limit: int, url: str) -> None:
    """Append what comes to the partial file."""
    with partial.path.open("ab") as file:
        size = file.tell()
        if size > limit or (total or 0) > limit:
            partial.remove()
            raise BundleError(f"{url}: has {(total or size) / 1e6:.1f} MB, a bundle has at most {limit / 1e6:.1f} MB: nothing was installed")
        while chunk := response.read(CHUNK):
            size += len(chunk)
            if size > limit:
                partial.remove()
                raise BundleError(f"{url}: does not end after {limit / 1e6:.1f} MB, the most a bundle has: nothing was installed")
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and size < total:
        raise ConnectionError(f"{size} of {total} bytes arrived")


def _length(response: HTTPResponse) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None


def _total_after(response: HTTPResponse, begun: int) -> int:
    """Size of the whole file, of which the part after `begun` bytes comes."""
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", response.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != begun or int(match[2]) + 1 != int(match[3]):
        raise BundleError(f"the server sends another part of the file than was asked for ({response.headers.get('Content-Range')}): try again later")
    return int(match[3])


class _NoWayOut(HTTPRedirectHandler):
    """Redirects stay on HTTPS."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: object, newurl: str) -> Request | None:
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _opener() -> OpenerDirector:
    """Knows HTTPS, with the certificates that the system (or SSL_CERT_FILE) trusts, proxies, and nothing else: no file:, no ftp:, no http:."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPSHandler(), _NoWayOut(), HTTPErrorProcessor(), HTTPDefaultErrorHandler(), UnknownHandler()):
        opener.add_handler(handler)
    return opener
