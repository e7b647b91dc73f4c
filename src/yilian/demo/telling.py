"""How the story is told: in the reader's language, with the time, a line a step, and a bar where work is long."""

from __future__ import annotations

import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from yilian.web.kit.text import Language, words

PACKAGE = "yilian.demo"
SHORT, INDENT = 12, 12
"""Digits of an id that are shown; blanks before a detail."""
_WIDE = "\u2e80-\u9fff\uff00-\uffef"
_PARTS = re.compile(rf"\s+|[{_WIDE}“‘《][，。；：！？、）”’》\s]*|[^\s{_WIDE}“‘《]+[，。；：！？、）”’》\s]*")
"""Where a line may be folded: after a blank, around a 中文 character, never before a mark that closes."""


class Teller:
    """Writes the story. Words come from `text.toml`; ids are shown by their first digits."""

    def __init__(self, language: Language, out: TextIO | None = None) -> None:
        self.language: Language = language
        self._out = out if out is not None else sys.stdout
        self._began = time.monotonic()
        self._chapter = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._began

    def chapter(self, key: str, /, **values: object) -> None:
        """Begin a chapter."""
        self._chapter += 1
        title = self.words("chapters", key, values)
        self._write(f"\n{self._chapter}. {title}\n")

    def say(self, key: str, /, **values: object) -> None:
        """Tell one step."""
        self._write(self._folded(f"  {self.elapsed:6.1f} s  {self.words('story', key, values)}\n"))

    def refused(self, key: str, code: str, /, **values: object) -> None:
        """Tell what was tried and refused, with the refusal's own name."""
        self._write(self._folded(f"  {self.elapsed:6.1f} s  ✗ {self.words('story', key, values)}  [{code}]\n"))

    def detail(self, key: str, /, **values: object) -> None:
        """Tell what belongs to the step before, set in below it."""
        self.under(self.words("story", key, values))

    def under(self, text: str) -> None:
        """Set a text in below the step before."""
        self._write(self._folded(f"{' ' * INDENT}{text}\n"))

    def line(self, text: str = "") -> None:
        """Write a line as it is."""
        self._write(f"{text}\n")

    def words(self, part: str, key: str, values: Mapping[str, object] | None = None) -> str:
        """Give a text with its values filled in."""
        return words(PACKAGE, self.language, part, key).format(**(values or {}))

    def join(self, parts: Iterable[str]) -> str:
        """Put parts in a row as the language does."""
        return ("，" if self.language == "zh" else ", ").join(parts)

    @contextmanager
    def work(self, key: str, /, **values: object) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Show a bar on a terminal while a job runs; gives what takes the job's progress."""
        title = self.words("story", key, values)
        if not self._out.isatty():
            yield lambda _: None
            return
        from rich.console import Console  # noqa: PLC0415 - for a terminal only
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(file=self._out), transient=True) as bar:
            task = bar.add_task(f"  {title}", total=None)

            def report(progress: Mapping[str, Any]) -> None:
                bar.update(task, completed=int(progress.get("done", 0)), total=int(progress.get("total", 0)) or None)

            yield report

    def _folded(self, text: str) -> str:
        """Fold a line to the terminal's width; as it is where no terminal reads it."""
        return fold(text, shutil.get_terminal_size().columns, INDENT) if self._out.isatty() else text

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def fold(text: str, width: int, indent: int) -> str:
    """Fold a line between words, 中文 between characters, and set in what follows; at least half of `width` is used."""
    indent = min(indent, width // 2)
    lines, line, used = [], "", 0
    for part in _PARTS.findall(text.rstrip("\n")):
        size = sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in part.rstrip())
        if line.strip() and used + size > width:
            lines.append(line.rstrip())
            line, used = " " * indent, indent
        line += part
        used += size + len(part) - len(part.rstrip())
    return "\n".join([*lines, line.rstrip()]) + "\n"


def short(identifier: str) -> str:
    """Show an id by its first digits."""
    return identifier[:SHORT]
