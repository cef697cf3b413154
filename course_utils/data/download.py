"""Fetch the official CIFAR-10 archive: fast mirrors first, resumed where it stopped, checked by its MD5."""

import http.client
import ssl
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from torchvision.datasets.utils import check_integrity
from tqdm import tqdm

from .folder import ARCHIVE

_OFFICIAL = tomllib.loads(Path(__file__).with_name("archive.toml").read_text(encoding="utf-8"))
SIZE, MD5, MIRRORS = _OFFICIAL["size"], _OFFICIAL["md5"], tuple(_OFFICIAL["mirrors"])

# Leave a mirror after so many seconds without a byte, or below so many bytes per second; the second round is
# for those that answered, but slowly.
ROUNDS = ((5, 200_000), (30, 0))
_JUDGE_AFTER = 10.0  # seconds before the speed counts
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
    the next call goes on from there.

    Args:
        folder: where the archive goes; created if missing.
        mirrors: addresses of the same bytes, best first; none means that the network is not to be used.

    Raises:
        DownloadError: no mirror delivered.
        OSError: the folder cannot be written, or the disk is full.
    """
    archive, part, left = folder / ARCHIVE, folder / f"{ARCHIVE}.part", list(mirrors)
    if check_integrity(archive, MD5):
        return archive
    if not mirrors:
        raise DownloadError("downloading is switched off")
    folder.mkdir(parents=True, exist_ok=True)
    if archive.exists():
        archive.replace(part)  # most often cut short: go on from there
    reasons: dict[str, str] = {}
    for silence, speed in ROUNDS:
        for url in left.copy():
            host = urlsplit(url).netloc
            try:
                _complete(part, url, silence, speed)
                return part.replace(archive)
            except _Refused as refusal:
                reasons[host], answered = refusal.args
                if not answered:
                    left.remove(url)
                if reasons[host] != _UNREACHABLE:
                    print(f"CIFAR-10: {host} {reasons[host]}.")
    if set(reasons.values()) == {_UNREACHABLE}:
        raise DownloadError("there is no network")
    raise DownloadError("; ".join(f"{host} {reason}" for host, reason in reasons.items()))


def _complete(part: Path, url: str, silence: float, speed: float) -> None:
    """Complete the half download from one mirror and check it, or raise _Refused."""
    start = part.stat().st_size if part.exists() else 0
    # plain text, because notebook widgets fail in too many set-ups
    look = {"unit": "B", "unit_scale": True, "mininterval": 0.5, "delay": 0.5, "leave": False}
    with tqdm(desc=f"CIFAR-10 from {urlsplit(url).netloc}", initial=start, total=SIZE, **look) as bar:
        for block in _blocks(url, start, silence, speed) if start < SIZE else ():
            with part.open("ab") as file:
                bar.update(file.write(block))
    if check_integrity(part, MD5):
        return
    part.unlink()
    if not start:  # it was all this mirror's
        raise _Refused("sent a damaged file", False)
    _complete(part, url, silence, speed)  # a chance from the beginning


def _blocks(url: str, start: int, silence: float, speed: float) -> Iterator[bytes]:
    """Yield a mirror's archive from byte `start` on, or raise _Refused."""
    headers = {"User-Agent": "pytorch-gpu-course", "Range": f"bytes={start}-"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=silence) as answer:
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
                if seconds > _JUDGE_AFTER and place - first < speed * seconds:
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
