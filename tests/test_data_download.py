"""The download of CIFAR-10's archive, against a server on this machine that misbehaves in many ways."""

import contextlib
import hashlib
import http.server
import random
import socket
import ssl
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from course_utils.data import download
from course_utils.data.files import alone

CONTENT = random.Random(0).randbytes(500_000)  # stands for the archive
SIZE, MD5 = len(CONTENT), hashlib.md5(CONTENT).hexdigest()
HALF = SIZE // 2


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the path says: /whole, /norange, /cut, /damaged, /wrongpart, /login, /silent, /headers.

    Others get 404.
    """

    def do_GET(self) -> None:
        kind, asked = self.path.strip("/"), self.headers.get("Range", "bytes=0-")
        self.server.requests.append((kind, asked))
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if kind in ("whole", "cut", "damaged", "silent", "wrongpart"):
            content = CONTENT[::-1] if kind == "damaged" else CONTENT
            self.send_response(206)
            shown = start + 1 if kind == "wrongpart" else start
            self.send_header("Content-Range", f"bytes {shown}-{SIZE - 1}/{SIZE}")
            self.send_header("Content-Length", str(SIZE - start))
            self.end_headers()
            self.wfile.write(content[start:HALF] if kind in ("cut", "silent") else content[start:])
            if kind == "silent":
                self.wfile.flush()
                self.server.test_is_over.wait(30)
        elif kind == "headers":
            self.send_response(206)
            self.flush_headers()
            with contextlib.suppress(OSError):
                while not self.server.test_is_over.wait(0.01):
                    self.wfile.write(b"x")
        elif kind in ("norange", "login"):
            content = CONTENT if kind == "norange" else b"<html>Please log in</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        else:
            self.send_error(404)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "SIZE", SIZE)
    monkeypatch.setattr(download, "MD5", MD5)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.requests, httpd.test_is_over = [], threading.Event()
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield httpd
    httpd.test_is_over.set()
    httpd.shutdown()
    httpd.server_close()


def fetch(folder: Path, server: http.server.ThreadingHTTPServer, *kinds: str) -> Path:
    mirrors = [f"http://127.0.0.1:{server.server_port}/{kind}" for kind in kinds]
    return download.fetch_archive(folder, mirrors)


def kinds_asked(server: http.server.ThreadingHTTPServer) -> list[str]:
    return [kind for kind, _ in server.requests]


def test_a_whole_archive_arrives_and_is_not_fetched_again(tmp_path, server):
    folder = tmp_path / "new" / "data"
    archive = fetch(folder, server, "whole")
    assert archive == folder / "cifar-10-python.tar.gz"
    assert archive.read_bytes() == CONTENT
    assert fetch(folder, server, "whole") == archive
    assert kinds_asked(server) == ["whole"]
    assert list(folder.iterdir()) == [archive]


@pytest.mark.parametrize(("bad", "words"), [("missing", "answered 404"), ("damaged", "sent a damaged file")])
def test_the_next_mirror_is_asked_when_one_fails(tmp_path, server, capsys, bad, words):
    assert fetch(tmp_path, server, bad, "whole").read_bytes() == CONTENT
    assert kinds_asked(server) == [bad, "whole"]
    assert capsys.readouterr().out.count("\n") == 1
    with pytest.raises(download.DownloadError, match=words):
        fetch(tmp_path / "other", server, bad)
    assert not (tmp_path / "other" / "cifar-10-python.tar.gz").exists()


@pytest.mark.parametrize("helper", ["whole", "norange"])
def test_a_download_cut_off_half_way_goes_on_at_the_next_mirror(tmp_path, server, helper):
    assert fetch(tmp_path, server, "cut", helper).read_bytes() == CONTENT
    assert server.requests == [("cut", "bytes=0-"), (helper, f"bytes={HALF}-")]


@pytest.mark.parametrize("helper", ["whole", "norange"])
def test_a_half_download_survives_failure_and_the_next_call_goes_on(tmp_path, server, helper):
    with pytest.raises(download.DownloadError, match="broke off half-way"):
        fetch(tmp_path, server, "cut")
    assert (tmp_path / "cifar-10-python.tar.gz.part").read_bytes() == CONTENT[:HALF]
    server.requests.clear()
    assert fetch(tmp_path, server, helper).read_bytes() == CONTENT
    assert server.requests == [(helper, f"bytes={HALF}-")]


def test_a_half_download_with_wrong_bytes_is_fetched_again_from_the_beginning(tmp_path, server):
    (tmp_path / "cifar-10-python.tar.gz.part").write_bytes(bytes(HALF))
    assert fetch(tmp_path, server, "whole").read_bytes() == CONTENT
    assert server.requests == [("whole", f"bytes={HALF}-"), ("whole", "bytes=0-")]


def test_an_archive_cut_short_by_another_program_is_completed(tmp_path, server):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(CONTENT[:1_000])
    assert fetch(tmp_path, server, "whole").read_bytes() == CONTENT
    assert server.requests == [("whole", "bytes=1000-")]


@pytest.mark.parametrize("junk", [bytes(SIZE), bytes(SIZE + 1)])
def test_a_damaged_archive_is_replaced(tmp_path, server, junk):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(junk)
    assert fetch(tmp_path, server, "whole").read_bytes() == CONTENT


@pytest.mark.parametrize("bad", ["login", "wrongpart"])
def test_what_is_plainly_another_file_does_not_touch_the_half_download(tmp_path, server, bad):
    (tmp_path / "cifar-10-python.tar.gz.part").write_bytes(CONTENT[:HALF])
    with pytest.raises(download.DownloadError, match="sent another file"):
        fetch(tmp_path, server, bad)
    assert (tmp_path / "cifar-10-python.tar.gz.part").read_bytes() == CONTENT[:HALF]


def test_a_silent_mirror_is_left_and_asked_again_with_patience(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "ROUNDS", ((0.4, 0), (0.5, 0)))
    with pytest.raises(download.DownloadError, match=r"was silent for 0\.5 s"):
        fetch(tmp_path, server, "silent")
    assert kinds_asked(server) == ["silent", "silent"]
    assert (tmp_path / "cifar-10-python.tar.gz.part").read_bytes() == CONTENT[:HALF]


def test_a_slow_mirror_is_left_for_a_faster_one_and_used_if_there_is_none(
    tmp_path, server, monkeypatch, capsys
):
    ticks = iter(range(0, 10_000, 11))  # each look at the clock: 11 seconds later
    monkeypatch.setattr(download, "_clock", lambda: float(next(ticks)))
    monkeypatch.setattr(download, "ROUNDS", ((5, 200_000), (30, 1)))
    assert fetch(tmp_path, server, "whole", "norange").read_bytes() == CONTENT
    assert kinds_asked(server) == ["whole", "norange", "whole"]
    assert capsys.readouterr().out.count("is too slow") == 2


def test_headers_without_end_are_left(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "ROUNDS", ((0.1, 0),))
    with pytest.raises(download.DownloadError, match=r"was silent for 0\.1 s"):
        fetch(tmp_path, server, "headers")
    assert fetch(tmp_path, server, "headers", "whole").read_bytes() == CONTENT


@pytest.mark.parametrize("rounds", [((5, 0), (30, 0)), ((5, 200_000), (30, 200_000))])
def test_a_download_has_an_end_and_the_next_call_goes_on(tmp_path, server, monkeypatch, rounds):
    ticks = iter(range(0, 1_000_000, 1_500))
    monkeypatch.setattr(download, "_clock", lambda: float(next(ticks)))
    monkeypatch.setattr(download, "ROUNDS", rounds)
    with pytest.raises(download.DownloadError, match="is too slow"):
        fetch(tmp_path, server, "whole")
    arrived = (tmp_path / "cifar-10-python.tar.gz.part").read_bytes()
    assert CONTENT.startswith(arrived)
    monkeypatch.setattr(download, "_clock", lambda: 0.0)
    assert fetch(tmp_path, server, "whole").read_bytes() == CONTENT
    assert server.requests[-1] == ("whole", f"bytes={len(arrived)}-")


def test_two_downloads_at_once_have_a_file_each(tmp_path, server):
    part, lock = tmp_path / "cifar-10-python.tar.gz.part", tmp_path / "cifar-10-python.tar.gz.lock"
    part.write_bytes(CONTENT[:HALF])  # the other one's
    with alone(lock):
        assert fetch(tmp_path, server, "whole").read_bytes() == CONTENT
        (tmp_path / "cifar-10-python.tar.gz").unlink()
        with pytest.raises(download.DownloadError):
            fetch(tmp_path, server, "cut")
    assert [path for path in tmp_path.iterdir() if path != lock] == [part]
    assert part.read_bytes() == CONTENT[:HALF]


def test_a_refused_connection_and_no_network_are_told_from_each_other(tmp_path, server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]  # closed again below: nobody listens there
    nobody = f"http://127.0.0.1:{port}/whole"
    with pytest.raises(download.DownloadError, match=r"^there is no network$"):
        download.fetch_archive(tmp_path, [nobody, nobody])
    missing = f"http://127.0.0.1:{server.server_port}/missing"
    with pytest.raises(download.DownloadError, match=r"could not be reached; .* answered 404"):
        download.fetch_archive(tmp_path, [nobody, missing])


def test_a_bad_certificate_is_named_and_the_check_stays_on(tmp_path, monkeypatch):
    def refuse(request, *, timeout):
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed"))

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(download.DownloadError, match="certificate that cannot be verified") as caught:
        download.fetch_archive(tmp_path, ["https://example.org/whole"])
    assert "\n" not in str(caught.value)


def test_a_damaged_archive_stays_until_there_is_a_whole_one_and_is_named(tmp_path, server):
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(bytes(SIZE))
    with pytest.raises(download.DownloadError, match=r"^cifar-10-python\.tar\.gz there is damaged, and "):
        fetch(tmp_path, server, "missing")
    assert archive.read_bytes() == bytes(SIZE)


def test_without_mirrors_nothing_is_fetched_or_touched(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"damaged")
    with pytest.raises(download.DownloadError, match="switched off"):
        download.fetch_archive(tmp_path, ())
    assert (tmp_path / "cifar-10-python.tar.gz").read_bytes() == b"damaged"


def test_every_mirror_is_https_and_serves_the_archives_name():
    assert len(set(download.MIRRORS)) >= 3
    assert all(url.startswith("https://") and url.endswith(download.ARCHIVE) for url in download.MIRRORS)
