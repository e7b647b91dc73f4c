"""Find words of the input in any bytes: as they are, in Base64, escaped, or inside something compressed."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

LEAST = 8
"""Characters of a word worth looking for, and bytes by whose first ones a form is found."""
_GZIP = b"\x1f\x8b\x08"
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_MOST_INFLATED = 4 << 20


class Searcher:
    """Looks for many words at once."""

    def __init__(self, words: Iterable[str]) -> None:
        self._forms: dict[bytes, list[tuple[bytes, str]]] = {}
        for word in words:
            for form in _forms(word):
                self._forms.setdefault(form[:LEAST], []).append((form, word))
        self._starts = {int.from_bytes(start, "little") for start in self._forms}

    def find(self, content: bytes) -> set[str]:
        """Give the words that stand in the bytes in any of the forms."""
        found = self._find_plain(content)
        for inner in _inflated(content):
            found |= self._find_plain(inner)
        return found

    def _find_plain(self, content: bytes) -> set[str]:
        found: set[str] = set()
        for offset in range(min(LEAST, len(content))):
            whole = (len(content) - offset) // LEAST * LEAST
            view = memoryview(content)[offset : offset + whole].cast("Q")
            for start in self._starts.intersection(view):
                forms = self._forms[start.to_bytes(LEAST, "little")]
                found |= {word for form, word in forms if form in content}
        return found


def _forms(word: str) -> Iterator[bytes]:
    """Give the forms of at least eight bytes: UTF-8, UTF-16, JSON escapes, Base64 at each of its three alignments."""
    raw = word.encode()
    forms = [raw, word.encode("utf-16-le"), json.dumps(word)[1:-1].encode()]
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + raw)
        # what the bytes before and behind it share a digit with is not the word's own
        forms.append(encoded[(0, 2, 3)[shift] : len(encoded) - (4 if len(raw + bytes(shift)) % 3 else 0)])
    yield from (form for form in forms if len(form) >= LEAST)


def _inflated(content: bytes) -> Iterator[bytes]:
    for magic, window in ((_GZIP, 31), *((start, 15) for start in _ZLIB)):
        place = content.find(magic)
        while place >= 0:
            decompressor = zlib.decompressobj(window)
            with suppress(zlib.error):
                yield decompressor.decompress(content[place : place + _MOST_INFLATED], _MOST_INFLATED)
            place = content.find(magic, place + 1)
