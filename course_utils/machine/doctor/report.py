"""From facts to findings, to a verdict, to plain text. Pure functions."""

import textwrap

from . import fixes, rules_gpu, rules_place, rules_python
from .facts import OK, PROBLEM, Facts, Finding, Interpreter

RULES = (
    rules_python.python,
    rules_python.environments,
    rules_python.torch,
    rules_python.replaced,
    rules_python.torchvision,
    rules_python.others,
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
    return [_shortened(finding, facts) for finding in [*findings, verdict(facts, findings)]]


def verdict(facts: Facts, findings: list[Finding]) -> Finding:
    """Whether the course can run here, and on what; a "problem" with its first fix where it cannot."""
    it, mode = facts.interpreter, facts.place.variables.get("COURSE_DEVICE", "auto")
    old = it and (
        it.version < rules_python.OLDEST_PYTHON or fixes.numbers(it.torch) < rules_python.OLDEST_TORCH
    )
    problems = [finding for finding in findings if finding.level == PROBLEM]
    stops = [finding for finding in problems if finding.title.startswith(("COURSE_", rules_python.MISSING))]
    if not it or old or not it.computes or not it.vision or stops:
        first = (stops or problems or [Finding(PROBLEM, "PyTorch does not work", "", fixes.lab(facts))])[0]
        return Finding(PROBLEM, f"The course cannot run here yet. {first.title}.", "", first.fix)
    return Finding(OK, f"This machine can run the course: {_with_what(facts, it, mode)}.")


def _with_what(facts: Facts, it: Interpreter, mode: str) -> str:
    """The device that the lessons will choose."""
    if mode in ("virtual", "cpu"):
        return f"with {'virtual GPUs' if mode == 'virtual' else 'the CPU'}, because COURSE_DEVICE={mode}"
    if facts.gpus_work:
        names = ", ".join(dict.fromkeys(gpu.name for gpu in it.gpus))
        if it.accelerator != "cuda":
            return f"with the real GPU {names}; lessons 05 and 06 need CUDA and use virtual GPUs"
        if len(it.gpus) > 1:
            return f"with {len(it.gpus)} real GPUs, {names}"
        return f"with the real GPU {names}; lesson 05 needs two CUDA GPUs and uses virtual ones"
    if it.gpus:
        return "with virtual GPUs, if you set COURSE_DEVICE=virtual; for its own GPU see above"
    return "with virtual GPUs; for its own GPU see above" if facts.gpus_there else "with virtual GPUs"


def _shortened(finding: Finding, facts: Facts) -> Finding:
    """Paths without the user's name: from the course's folder on, or from ~ on, where that can be pasted."""
    sep = "\\" if facts.place.system == "win32" else "/"
    home = (facts.place.home + sep, f"~{sep}")
    shorts = [pair for pair in ((facts.course.root + sep, ""), home) if len(pair[0]) > 1]
    title, meaning, fix = finding.title, finding.meaning, finding.fix
    for long, short in shorts:
        title, meaning = title.replace(long, short), meaning.replace(long, short)
    if home in shorts and sep == "/" and '"' not in fix:
        fix = fix.replace(*home)
    return Finding(finding.level, title, meaning, fix)


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
