"""Downloads from a real HTTPS server on loopback, which cuts off, lies and redirects."""

import pytest

from edge_agent import download as module
from edge_agent.contract.errors import BundleError, ConfigError
from edge_agent.download import check_url, download, partial_of

FILE = bytes(range(256)) * 1000
LIMIT = 1_000_000


@pytest.fixture
def server(https_server, monkeypatch):
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    https_server.content = FILE
    return https_server


def fetched(server, folder, *, limit=LIMIT):
    lines = list(download(server.url, folder, limit=limit))
    return partial_of(server.url, folder).path.read_bytes(), lines


def test_a_file_is_fetched_whole(server, tmp_path):
    assert fetched(server, tmp_path / "downloads") == (FILE, [])


def test_a_download_goes_on_where_it_was_cut_off(server, tmp_path):
    server.cuts = [100_000, 50_000]
    content, lines = fetched(server, tmp_path)
    assert content == FILE
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert lines == [
        "cut off after 0.10 MB, going on in 0 s",
        "going on after 0.10 MB",
        "cut off after 0.15 MB, going on in 0 s",
        "going on after 0.15 MB",
    ]


def test_so_does_a_later_run(server, tmp_path):
    server.cuts = [60_000, *[0] * (module.TRIES - 1)]
    with pytest.raises(BundleError, match=r"not fetched in 5 tries .*it goes on where it was"):
        fetched(server, tmp_path)
    assert fetched(server, tmp_path)[0] == FILE
    assert server.ranges[-1] == "bytes=60000-"


def test_another_file_on_the_server_is_fetched_from_its_start(server, tmp_path):
    server.cuts = [100_000, *[0] * (module.TRIES - 1)]
    with pytest.raises(BundleError):
        fetched(server, tmp_path)
    server.content, server.tag = FILE[::-1], '"two"'
    assert fetched(server, tmp_path)[0] == FILE[::-1]


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_without_proof_that_it_is_the_same_file_nothing_is_put_together(server, tmp_path, tag):
    server.tag, server.cuts = tag, [100_000]
    assert fetched(server, tmp_path)[0] == FILE
    assert server.ranges == [None, None]


def test_a_server_without_ranges_is_asked_from_the_start(server, tmp_path):
    server.takes_ranges, server.cuts = False, [100_000]
    assert fetched(server, tmp_path)[0] == FILE
    assert server.ranges == [None, "bytes=100000-"]


def test_what_had_arrived_whole_is_not_fetched_again(server, tmp_path):
    fetched(server, tmp_path)
    assert fetched(server, tmp_path)[0] == FILE
    assert server.ranges == [None, f"bytes={len(FILE)}-"]
    server.content, server.tag = FILE[:1000], '"shorter"'
    assert fetched(server, tmp_path)[0] == FILE[:1000]


@pytest.mark.parametrize("damage", [b"", b"{", b'"one'])
def test_a_mark_that_was_cut_off_is_worth_nothing(server, tmp_path, damage):
    server.cuts = [100_000, *[0] * (module.TRIES - 1)]
    with pytest.raises(BundleError):
        fetched(server, tmp_path)
    partial_of(server.url, tmp_path).mark.write_bytes(damage)
    assert fetched(server, tmp_path)[0] == FILE
    assert server.ranges[-1] is None


def test_a_file_that_says_it_is_too_large_is_refused_at_once(server, tmp_path):
    with pytest.raises(BundleError, match=r"has 0\.3 MB, a bundle has at most 0\.1 MB"):
        fetched(server, tmp_path, limit=100_000)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_end_is_cut(server, tmp_path):
    server.length = False
    with pytest.raises(BundleError, match=r"does not end after 0\.1 MB"):
        fetched(server, tmp_path, limit=100_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reply", ["bytes 5-9/10", "bytes 100000-255999/*", "nonsense"])
def test_another_part_than_was_asked_for_is_refused(server, tmp_path, reply):
    server.cuts, server.range_reply = [100_000], reply
    with pytest.raises(BundleError, match="sends another part of the file"):
        fetched(server, tmp_path)


def test_a_server_nobody_vouches_for_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(BundleError, match="the server's certificate is not trusted"):
        fetched(server, tmp_path)
    assert server.ranges == []


def test_a_file_that_is_not_there_is_named(server, tmp_path):
    server.status = 404
    with pytest.raises(BundleError, match="the server answers 404"):
        fetched(server, tmp_path)
    assert len(server.ranges) == 1


def test_a_server_in_trouble_is_asked_again(server, tmp_path):
    server.status = 503
    with pytest.raises(BundleError, match=r"not fetched in 5 tries .*503"):
        fetched(server, tmp_path)
    assert len(server.ranges) == module.TRIES


@pytest.mark.parametrize("to", ["http://127.0.0.1/x", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_lead_nowhere_else(server, tmp_path, to):
    server.redirect = to
    with pytest.raises((ConfigError, BundleError), match=r"https://HOST|302"):
        fetched(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://a/x.tar", "file:///etc/passwd", "https:///x", "ftp://a/x", "https://me:secret@a/x"])
def test_other_addresses_are_refused_without_a_word_of_secrets(url):
    with pytest.raises(ConfigError) as caught:
        check_url(url)
    assert "secret" not in str(caught.value)
