"""Fetch the official CIFAR-10 archive: fast mirrors first, resumed where it stopped, checked by its MD5."""

import http.client
import shutil
import ssl
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

from torchvision.datasets.utils import check_integrity
from tqdm import tqdm

from course_utils.data.files import alone, replace

from .folder import ARCHIVE

_OFFICIAL = tomllib.loads(Path(__file__).with_name("archive.toml").read_text(encoding="utf-8"))
SIZE, MD5, MIRRORS = _OFFICIAL["size"], _OFFICIAL["md5"], tuple(_OFFICIAL["mirrors"])

# Leave a mirror after so many seconds without a byte, or below so many bytes per second; the second round is
# for those that answered, but slowly.
ROUNDS = ((5, 200_000), (30, 5_000))
_JUDGE_AFTER = 10.0  # seconds before the speed counts
_ANSWER_WITHIN = 6  # times the seconds without a byte, until all headers are here
_HOURS = 1.0  # for all mirrors together
_clock = time.monotonic
_UNREACHABLE = "could not be reached"
_CERTIFICATE = (
    "has a certificate that cannot be verified (macOS: run 'Install Certificates.command'; "
    "behind a proxy: set SSL_CERT_FILE to its certificate)"
)


class DownloadError(RuntimeError):
    """CIFAR-10 could not be fetched; the message says why, in one line."""


class _Refused(Exception):
    """A mirror did not deliver: why, and whether it did answer, so that a patient second try makes sense."""


def fetch_archive(folder: Path, mirrors: Sequence[str]) -> Path:
    """Download the archive into a folder, unless it is there already, and return its path, checked.

    When anything goes wrong, what has arrived stays as `cifar-10-python.tar.gz.part`, and the next mirror or
    the next call goes on from there. Two at once have a file each. A damaged archive stays until a whole one
    is here.

    Args:
        folder: where the archive goes; created if missing.
        mirrors: addresses of the same bytes, best first; none means that the network is not to be used.

    Raises:
        DownloadError: no mirror delivered.
        OSError: the folder cannot be written, or the disk is full.
    """
    archive, part, lock = folder / ARCHIVE, folder / f"{ARCHIVE}.part", folder / f"{ARCHIVE}.lock"
    if check_integrity(archive, MD5):
        return archive
    damaged = f"{ARCHIVE} there is damaged, and " if archive.exists() else ""
    if not mirrors:
        raise DownloadError(f"{damaged}downloading is switched off")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with alone(lock) as first:
            part = part if first else part.with_suffix(f".{token_hex(4)}.part")
            if damaged and not part.exists() and archive.stat().st_size < SIZE:
                shutil.copyfile(archive, part)  # most often cut short: go on from there
            replace(_download(part, mirrors), archive)
    except DownloadError as error:
        raise DownloadError(f"{damaged}{error}") from error
    finally:
        with suppress(OSError):  # on Windows another download may hold it
            (lock if first else part).unlink()
    return archive


def _download(part: Path, mirrors: Sequence[str]) -> Path:
    """Complete a half download from the mirrors in turn; return its path, or raise DownloadError."""
    left, end = list(mirrors), _clock() + _HOURS * 3600
    reasons: dict[str, str] = {}
    for silence, speed in ROUNDS:
        for url in left.copy():
            host = urlsplit(url).netloc
            try:
                _complete(part, url, silence, speed, end)
                return part
            except _Refused as refusal:
                reasons[host], answered = refusal.args
                if not answered:
                    left.remove(url)
                if reasons[host] != _UNREACHABLE:
                    print(f"CIFAR-10: {host} {reasons[host]}.")
    if set(reasons.values()) == {_UNREACHABLE}:
        raise DownloadError("there is no network")
    raise DownloadError("; ".join(f"{host} {reason}" for host, reason in reasons.items()))


def _complete(part: Path, url: str, silence: float, speed: float, end: float) -> None:
    """Complete the half download from one mirror and check it, or raise _Refused."""
    start = part.stat().st_size if part.exists() else 0
    # plain text, because notebook widgets fail in too many set-ups
    look = {"unit": "B", "unit_scale": True, "mininterval": 0.5, "delay": 0.5, "leave": False}
    with tqdm(desc=f"CIFAR-10 from {urlsplit(url).netloc}", initial=start, total=SIZE, **look) as bar:
        for block in _blocks(url, start, silence, speed, end) if start < SIZE else ():
            with part.open("ab") as file:
                bar.update(file.write(block))
    if check_integrity(part, MD5):
        return
    part.unlink()
    if not start:  # it was all this mirror's
        raise _Refused("sent a damaged file", False)
    _complete(part, url, silence, speed, end)  # a chance from the beginning


def _open(url: str, start: int, silence: float) -> http.client.HTTPResponse:
    """Ask a mirror for its bytes; TimeoutError also for endless headers: urlopen times each read alone."""
    headers = {"User-Agent": "pytorch-gpu-course", "Range": f"bytes={start}-"}
    request, coming = urllib.request.Request(url, headers=headers), Future()

    def ask() -> None:
        try:
            coming.set_result(urllib.request.urlopen(request, timeout=silence))
        except Exception as error:
            coming.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    return coming.result(_ANSWER_WITHIN * silence)


def _blocks(url: str, start: int, silence: float, speed: float, end: float) -> Iterator[bytes]:
    """Yield a mirror's archive from byte `start` on, or raise _Refused."""
    try:
        with _open(url, start, silence) as answer:
            first = place = start if answer.status == 206 else 0  # a server may ignore Range
            right = {"Content-Range": f"bytes {first}-{SIZE - 1}/{SIZE}", "Content-Length": str(SIZE - first)}
            if any(answer.headers.get(name, value) != value for name, value in right.items()):
                raise _Refused("sent another file, perhaps a login page", False)
            since = _clock()
            while place < SIZE:
                block = answer.read1(1 << 16)  # unlike read, it does not lose what came before an error
                if not block:
                    raise EOFError
                yield block[max(0, start - place) :]
                place += len(block)
                seconds = _clock() - since
                if since + seconds > end or (seconds > _JUDGE_AFTER and place - first < speed * seconds):
                    raise _Refused("is too slow", True)
    except urllib.error.HTTPError as error:
        raise _Refused(f"answered {error.code} {error.reason}", False) from error
    except urllib.error.URLError as error:  # the connection does not stand
        bad_certificate = isinstance(error.reason, ssl.SSLCertVerificationError)
        raise _Refused(_CERTIFICATE if bad_certificate else _UNREACHABLE, False) from error
    except TimeoutError as error:
        raise _Refused(f"was silent for {silence} s", True) from error
    except (OSError, EOFError, http.client.HTTPException) as error:
        raise _Refused("broke off half-way", True) from error
