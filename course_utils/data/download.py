"""Fetch the official CIFAR-10 archive: fast mirrors first, resumed where it stopped, checked by its MD5."""

import hashlib
import http.client
import ssl
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from .folder import ARCHIVE

_OFFICIAL = tomllib.loads(Path(__file__).with_name("archive.toml").read_text(encoding="utf-8"))
SIZE, MD5, MIRRORS = _OFFICIAL["size"], _OFFICIAL["md5"], tuple(_OFFICIAL["mirrors"])

_SILENCE = 8.0  # seconds without a byte after which a mirror is left
_UNREACHABLE = "could not be reached"
_CERTIFICATE = (
    "has a certificate that cannot be verified (macOS: run 'Install Certificates.command'; "
    "behind a proxy: set SSL_CERT_FILE to its certificate)"
)


class DownloadError(RuntimeError):
    """CIFAR-10 could not be fetched, from one mirror or at all; the message says why, in one line."""


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
    archive, part = folder / ARCHIVE, folder / f"{ARCHIVE}.part"
    if _has_md5(archive, md5):
        return archive
    if not mirrors:
        raise DownloadError("downloading is switched off")
    folder.mkdir(parents=True, exist_ok=True)
    if archive.exists():
        archive.replace(part)  # most often cut short: go on from there
    reasons: dict[str, str] = {}
    for url in (*mirrors, *mirrors):  # all twice: a second try goes on where the first broke off
        host = urlsplit(url).netloc
        if reasons.get(host) == _UNREACHABLE:
            continue
        try:
            _complete(part, size, md5, url)
            return part.replace(archive)
        except DownloadError as refusal:
            if str(refusal) not in (_UNREACHABLE, reasons.get(host)):
                print(f"CIFAR-10: {host} {refusal}.")
            reasons[host] = str(refusal)
    if set(reasons.values()) == {_UNREACHABLE}:
        raise DownloadError("there is no network")
    raise DownloadError("; ".join(f"{host} {reason}" for host, reason in reasons.items()))


def _has_md5(file: Path, md5: str) -> bool:
    return file.exists() and hashlib.md5(file.read_bytes()).hexdigest() == md5


def _complete(part: Path, size: int, md5: str, url: str) -> None:
    """Complete the half download from one mirror and check it, or raise DownloadError."""
    start = part.stat().st_size if part.exists() else 0
    # plain text, because notebook widgets fail in too many set-ups
    look = {"unit": "B", "unit_scale": True, "mininterval": 0.5, "delay": 0.5, "leave": False}
    with tqdm(desc=f"CIFAR-10 from {urlsplit(url).netloc}", initial=start, total=size, **look) as bar:
        for block in _blocks(url, start, size) if start < size else ():
            with part.open("ab") as file:
                bar.update(file.write(block))
    if not _has_md5(part, md5):
        part.unlink()
        raise DownloadError("completed a damaged half download" if start else "sent a damaged file")


def _blocks(url: str, start: int, size: int) -> Iterator[bytes]:
    """Yield a mirror's archive from byte `start` on, or raise DownloadError."""
    headers = {"User-Agent": "pytorch-gpu-course", "Range": f"bytes={start}-"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_SILENCE) as answer:
            partial = answer.status == 206  # a server may ignore Range
            if not partial and answer.headers.get("Content-Length", str(size)) != str(size):
                raise DownloadError("sent another file, perhaps a login page")
            place = start if partial else 0
            while place < size:
                block = answer.read1(1 << 16)  # unlike read, it does not lose what came before an error
                if not block:
                    raise EOFError
                yield block[max(0, start - place) :]
                place += len(block)
    except urllib.error.HTTPError as error:
        raise DownloadError(f"answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:  # the connection does not stand
        bad_certificate = isinstance(error.reason, ssl.SSLCertVerificationError)
        raise DownloadError(_CERTIFICATE if bad_certificate else _UNREACHABLE) from error
    except TimeoutError as error:
        raise DownloadError(f"was silent for {_SILENCE:g} s") from error
    except (OSError, EOFError, http.client.HTTPException) as error:
        raise DownloadError("broke off half-way") from error
