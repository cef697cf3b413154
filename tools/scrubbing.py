"""What differs from one machine to the next although a cell is right, taken out of an output's text."""

import re
from functools import cache
from pathlib import Path

PATTERNS_FILE = Path(__file__).with_name("nbval_sanitize.cfg")  # nbval's format: pytest reads it as well


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    pairs = re.findall(r"^regex: (.*)\nreplace: (.*)$", PATTERNS_FILE.read_text(encoding="utf-8"), re.M)
    return [(re.compile(pattern), replacement) for pattern, replacement in pairs]


def scrub(text: str) -> str:
    """Replace memory addresses and machine paths in an output's text."""
    for pattern, replacement in _patterns():
        text = pattern.sub(replacement, text)
    return text
