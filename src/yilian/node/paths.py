"""Which files of its machine a node reads because a caller named them."""

from __future__ import annotations

from pathlib import Path

from yilian.errors import NoGrantError, NotFoundError, SettingsError
from yilian.node.home import Home

INSTITUTION = "{institution}"
"""In `imports.folders`: the short name of the caller's institution."""


def import_path(asked: str, home: Home, slug: str, folders: str) -> Path:
    """Give the path of an import, links followed, where this institution may have it read.

    A caller of the API is no user of the machine: it names what the node's own user can read. So the home, and the
    passphrase and the people's keys beside it, are never read, and with `folders` (joined by `:`) nothing outside them.

    Raises:
        SettingsError: the path is relative.
        NoGrantError: it lies in the home, or in none of the folders.
        NotFoundError: nothing lies there.
    """
    path = Path(asked)
    if not path.is_absolute():
        raise SettingsError("the path of an import is relative, expected one from the root: give it whole")
    found = path.resolve()
    allowed = [Path(folder.replace(INSTITUTION, slug)).resolve() for folder in folders.split(":") if folder]
    if allowed and not any(found.is_relative_to(folder) for folder in allowed):
        raise NoGrantError(
            "the path of the import lies outside the folders of this institution, expected one inside "
            "(imports.folders): move the files there"
        )
    whole = home.path.resolve()
    for own in (whole, home.people.resolve(), whole.with_name(f"{home.path.name}.passphrase")):
        if found.is_relative_to(own) or own.is_relative_to(found):
            raise NoGrantError("the path of the import takes in the node's home, expected one beside it: move files")
    if not found.exists():
        raise NotFoundError("nothing lies at the path of the import on the node's machine: check it")
    return found
