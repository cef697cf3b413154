"""From facts to findings, to a verdict, to plain text. Pure functions."""

import textwrap

from . import fixes, rules_gpu, rules_place, rules_python
from .facts import OK, PROBLEM, Facts, Finding

RULES = (
    rules_python.python,
    rules_python.environments,
    rules_python.torch,
    rules_python.replaced,
    rules_python.torchvision,
    rules_gpu.driver,
    rules_gpu.gpus,
    rules_place.virtual,
    rules_gpu.visible,
    rules_gpu.allocator,
    rules_place.variables,
    rules_python.pynvml,
    rules_place.room,
    rules_place.data,
)
WIDTH, INDENT = 96, 10


def judge(facts: Facts) -> list[Finding]:
    """Apply every rule; the verdict is the last finding."""
    findings = [finding for rule in RULES for finding in rule(facts)]
    return [*findings, verdict(facts, findings)]


def verdict(facts: Facts, findings: list[Finding]) -> Finding:
    """Whether the course can run here, and on what; a "problem" with its first fix where it cannot."""
    it = facts.interpreter
    old = it and (
        it.version < rules_python.OLDEST_PYTHON or fixes.numbers(it.torch) < rules_python.OLDEST_TORCH
    )
    if not it or old or not it.computes or not it.vision:
        first = next((finding for finding in findings if finding.level == PROBLEM), None)
        why = f"{first.title}." if first else "PyTorch does not work."
        return Finding(
            PROBLEM, f"The course cannot run here yet. {why}", "", first.fix if first else fixes.lab(facts)
        )
    working = [gpu for gpu in it.gpus if not gpu.error]
    if working and len(working) == len(it.gpus):
        names = ", ".join(dict.fromkeys(gpu.name for gpu in working))
        which = f"{len(working)} real GPUs, {names}" if len(working) > 1 else f"the real GPU {names}"
        few = "; lesson 05 needs two CUDA GPUs and uses virtual ones" if len(working) < 2 else ""
        few = few if it.accelerator == "cuda" else "; lessons 05 and 06 need CUDA and use virtual GPUs"
        return Finding(OK, f"This machine can run the course: {which}{few}.")
    how = ", if you set COURSE_DEVICE=virtual" if it.gpus else ""
    wrong = any(finding.level == PROBLEM for finding in findings)
    rest = " Its own GPU needs the fix above." if wrong and facts.gpus_there else ""
    return Finding(OK, f"This machine can run the course: with virtual GPUs{how}.{rest}")


def text(findings: list[Finding], width: int = WIDTH) -> str:
    """The report: each finding with its level, what it means, and on a line of its own the fix."""
    *rest, last = findings
    blocks = [_block(finding, width) for finding in rest]
    ending = f"{last.title} To do: {last.fix}" if last.fix else last.title
    return "\n".join([*blocks, "", ending])


def _block(finding: Finding, width: int) -> str:
    """One finding; the fix is never broken into lines, so that it can be copied."""
    pad = " " * INDENT
    shape = {"width": width, "subsequent_indent": pad, "break_long_words": False, "break_on_hyphens": False}
    lines = textwrap.wrap(finding.title, initial_indent=f"{finding.level:<{INDENT}}", **shape)
    lines += textwrap.wrap(finding.meaning, initial_indent=pad, **shape)
    return "\n".join([*lines, *([f"{pad}To do: {finding.fix}"] if finding.fix else [])])
