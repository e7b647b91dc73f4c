"""Which node a verb speaks to, and as whom: the access file that was handed over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yilian.cli.output import language, say
from yilian.errors import SettingsError

if TYPE_CHECKING:
    from yilian.client.http import Client
    from yilian.crypto.suite import Signer
    from yilian.node.home import Home
    from yilian.node.network import AccessFile

DEFAULT_HOME = "yilian-home"

HomeOption = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="YILIAN_HOME",
        help=say("节点主目录。", "Folder of the node."),
    ),
]
As = Annotated[
    str,
    typer.Option(
        "--as",
        envvar="YILIAN_CLIENT",
        help=say(
            "以谁的身份：访问文件，或其名称如 centre-physician。",
            "As whom: an access file, or its name such as centre-physician.",
        ),
    ),
]

DeviceKey = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help=say("设备密钥文件（密钥不在节点上时）。", "File of a key that no node holds."),
    ),
]
KeyPassphrase = Annotated[
    Path | None,
    typer.Option(
        "--key-passphrase-file",
        help=say("设备密钥的口令文件。", "File with the passphrase of that key."),
    ),
]


def find_access(name: str, home: Path) -> AccessFile:
    """Find an access file by path, or by its name in a home or beside it; SettingsError where there is none."""
    from yilian.node.home import Home
    from yilian.node.network import read_access

    if not name:
        raise SettingsError(
            "nobody is named, expected --as or YILIAN_CLIENT: give an access file, such as one in clients/"
        )
    places = Home(home)
    candidates = (Path(name), places.clients / f"{name}.toml", places.people / f"{name}.toml")
    file = next((path for path in candidates if path.is_file()), None)
    if file is None:
        known = sorted(path.stem for path in [*places.clients.glob("*.toml"), *places.people.glob("*.toml")])
        raise SettingsError(f"there is no access file {name}: {_which(known, places)}")
    return read_access(file)


def _which(known: list[str], places: Home) -> str:
    if known:
        return f"give a path, or one of {', '.join(known)}"
    return f"none lies in {places.people} either: copy that folder there, or give a path"


def open_client(name: str, home: Path) -> Client:
    """Give a client of the node that an access file names."""
    from yilian.client.http import Client

    access = find_access(name, home)
    if not access.url:
        raise SettingsError(f"access file {name} has no address yet: start the node once")
    return Client(access.url, access.token, language=language())


def load_key(access: AccessFile, home: Path, *, key: Path | None = None, passphrase_file: Path | None = None) -> Signer:
    """Open the key of a person that is held on a device; by default the one that was written beside the home."""
    from yilian.client.devicekey import load_device_key
    from yilian.node.home import Home
    from yilian.node.settings import load

    place = Home(home)
    if passphrase_file is None:
        passphrase = place.passphrase(load(place.settings_file))
    else:
        passphrase = read_bytes(passphrase_file).strip()
    return load_device_key(key or place.people / f"{access.institution}-{access.label}.key", passphrase)


def read_bytes(file: Path) -> bytes:
    """Read a file that the user named; SettingsError where it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}: name a file that can be read") from error
