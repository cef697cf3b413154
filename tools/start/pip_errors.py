"""What went wrong when pip failed, in one line. Standard library only."""

import platform
import re
import sys

AGAIN = "then run the same command again: finished downloads are kept"

# first match wins; the texts are those of pip 23 to 26
REASONS = (
    (
        "No module named pip",
        "this environment has no pip. Run: uv pip install -r requirements.txt, or: python -m ensurepip",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        f"a certificate was refused. Behind a proxy, set PIP_CERT to its certificate, {AGAIN}",
    ),
    (r"No space left on device|Errno 28|not enough space", f"the disk is full. Free some space, {AGAIN}"),
    (
        r"connection broken|NewConnectionError|Failed to resolve|Max retries exceeded|[Tt]imed ?out"
        r"|IncompleteRead|ConnectionReset|ProxyError|incomplete-download",
        f"the packages could not be downloaded. Check the network, {AGAIN}",
    ),
)


def reason(stderr: str) -> str:
    """Turn pip's error output into what happened and what to do."""
    for pattern, answer in REASONS:
        if re.search(pattern, stderr):
            return answer
    if re.search(r"No matching distribution found for (torch|numpy)", stderr):
        python = ".".join(map(str, sys.version_info[:2]))
        return (
            f"there is no PyTorch for Python {python} on {platform.system()} {platform.machine()}. "
            "Use Python 3.11 to 3.14, on Linux, Windows or a Mac with Apple silicon and macOS 14."
        )
    lines = stderr.strip().splitlines() or ["it gave no reason"]
    errors = [line for line in lines if line.lower().startswith("error")]
    return f"pip failed: {(errors or lines)[-1].strip()}"
