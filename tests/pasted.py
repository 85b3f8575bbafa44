"""What a reader pastes: the lines of the documents' blocks, and the commands that stand within a sentence."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

BLOCK = re.compile(r"^```(?:sh|bash|shell)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:[^`\n]*/)?(?:zcplatform|manage\.py) [a-z][^`\n]*)`")
PROGRAM = re.compile(r"(?:(?:.*/)?bin/)?zcplatform$|(?:.*/)?manage\.py$")
TABLE = re.compile(r"\S+ {2,}[^#\s]")  # a name and what it is
ENDS = {"&", "&&", "|", ";", ">", ">>", "||"}


def blocks(text: str) -> list[str]:
    """The blocks that are no other language, in their order."""
    return BLOCK.findall(text)


def commands(text: str) -> Iterator[tuple[list[str], bool]]:
    """Each call of the program, as the words that follow its name, and whether it stands in a block to be pasted."""
    for sources, whole in ((blocks(text), True), (INLINE.findall(text), False)):
        for source in sources:
            for line in source.replace("\\\n", " ").splitlines():
                yield from ((words, whole) for words in _calls(line))


def _calls(line: str) -> Iterator[list[str]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # no line of a shell
        return
    if TABLE.match(line):
        return
    for at, word in enumerate(words):
        begins = at == 0 or words[at - 1] in ENDS or "=" in words[at - 1] or words[at - 1].endswith("python")
        if PROGRAM.match(word) and begins and words[at + 1 :]:
            rest = words[at + 1 :]
            end = next((n for n, other in enumerate(rest) if other in ENDS), len(rest))
            yield rest[:end]


def targets(text: str) -> set[str]:
    """The targets of ``make`` that the blocks call."""
    found = re.findall(r"(?:^|&& )make ([a-z][a-z-]*)", "\n".join(blocks(text)), re.MULTILINE)
    return set(found) | set(re.findall(r"`make ([a-z][a-z-]*)", text))
