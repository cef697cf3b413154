"""From facts to findings, to a verdict, to plain text. Pure functions."""

import textwrap
from dataclasses import replace

from . import rules
from .facts import Facts, Finding
from .findings import Version, finding

WIDTH, INDENT = 96, 10


def judge(facts: Facts) -> list[Finding]:
    """Apply every rule; the verdict is the last finding."""
    findings = [each for rule in rules.RULES for each in rule(facts)]
    return [_shortened(each, facts) for each in [*findings, verdict(facts, findings)]]


def verdict(facts: Facts, findings: list[Finding]) -> Finding:
    """Whether the course can run here, and on what; a "problem" with its first fix where it cannot."""
    it = facts.interpreter
    old = it.version < rules.OLDEST_PYTHON or Version(it.torch).numbers < rules.OLDEST_TORCH
    stops = [each for each in findings if each.stops]
    if old or not it.computes or not it.vision or stops:
        problems = [each for each in findings if each.level == "problem"]
        first = [*stops, *problems, finding(facts, "torch_useless")][0]
        return replace(finding(facts, "cannot_run", first=first.title), fix=first.fix)
    mode, works = facts.place.variables.get("COURSE_DEVICE"), facts.gpus_work
    return finding(
        facts,
        "can_run",
        virtual_asked=mode == "virtual",
        cpu_asked=mode == "cpu",
        not_cuda=works and it.accelerator != "cuda",
        several=works and len(it.gpus) > 1,
        one=works,
        faulty=it.gpus,
        unused=facts.gpus_there,
        count=len(it.gpus),
        names=", ".join(dict.fromkeys(gpu.name for gpu in it.gpus)),
    )


def _shortened(finding: Finding, facts: Facts) -> Finding:
    """Paths without the user's name: from the course's folder on, or from ~ on, where that can be pasted."""
    sep = "\\" if facts.place.system == "win32" else "/"
    home, root = facts.place.home.rstrip(sep) + sep, facts.place.root + sep
    title, meaning, fix = finding.title, finding.meaning, finding.fix
    for long, short in ((root, ""), (home, f"~{sep}")):
        if len(long) > 1:
            title, meaning = title.replace(long, short), meaning.replace(long, short)
    if len(home) > 1 and sep == "/" and '"' not in fix:
        fix = fix.replace(home, "~/")
    return replace(finding, title=title, meaning=meaning, fix=fix)


def text(findings: list[Finding], width: int = WIDTH) -> str:
    """The report: each finding with its level, what it means, and on a line of its own the fix."""
    *rest, last = findings
    ending = f"{last.title} To do: {last.fix}" if last.fix else last.title
    return "\n".join([*(_block(finding, width) for finding in rest), "", ending])


def _block(finding: Finding, width: int) -> str:
    """One finding; the fix is never broken into lines, so that it can be copied."""
    pad = " " * INDENT
    shape = {"width": width, "subsequent_indent": pad, "break_long_words": False, "break_on_hyphens": False}
    lines = textwrap.wrap(finding.title, initial_indent=f"{finding.level:<{INDENT}}", **shape)
    lines += textwrap.wrap(finding.meaning, initial_indent=pad, **shape)
    return "\n".join([*lines, *([f"{pad}To do: {finding.fix}"] if finding.fix else [])])
