"""Settings of a node: environment over `home/node.toml` over defaults that are safe on a laptop.

`api.port` in the file is `YILIAN_API__PORT` in the environment. Read once at start, then passed as values.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from yilian.errors import SettingsError

PREFIX = "YILIAN_"
LISTS = frozenset({"anchoring.authorities"})
"""Settings that hold several values, in a variable with spaces between them."""
PASSPHRASE_VARIABLE = "YILIAN_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ApiSettings(_Section, frozen=True, kw_only=True):
    """Where people and programs reach the node over HTTP."""

    host: Annotated[str, Meta(description="Address to listen on.", extra={"unit": "address"})] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port to listen on; 0 = any free one.", extra={"unit": "port"})
    ] = 8470


class PeerSettings(_Section, frozen=True, kw_only=True):
    """Where other institutions reach those of this node over mutual TLS."""

    host: Annotated[str, Meta(description="Address to listen on.", extra={"unit": "address"})] = "127.0.0.1"
    base_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65000,
            description="Port of the first institution, the next ones follow; 0 = any free ones.",
            extra={"unit": "port"},
        ),
    ] = 8471
    announce: Annotated[
        str,
        Meta(
            max_length=200,
            description="Host name or address under which others reach the doors; empty = `peer.host`.",
            extra={"unit": "address"},
        ),
    ] = ""
    sequencer: Annotated[
        str,
        Meta(
            max_length=256,
            description="Where the sequencer's door is, such as `https://127.0.0.1:8471`; empty = as last announced.",
            extra={"unit": "address"},
        ),
    ] = ""
    timeout_s: Annotated[
        int, Meta(ge=1, le=3600, description="How long one answer of a peer may take.", extra={"unit": "s"})
    ] = 30


class EngineSettings(_Section, frozen=True, kw_only=True):
    """How the embedded ledger engine works."""

    second_core: Annotated[
        bool,
        Meta(
            description="Check signatures of a backlog in a process of its own, beside execution.",
            extra={"unit": "true or false"},
        ),
    ] = True


class LedgerSettings(_Section, frozen=True, kw_only=True):
    """How much of the ledger is kept."""

    keep_blocks: Annotated[
        int,
        Meta(
            ge=0,
            description="Newest blocks kept at least; older ones are removed once a snapshot stands above them, log "
            "and proofs stay. The last day is always kept. 0 = all.",
            extra={"unit": "blocks"},
        ),
    ] = 0


class BackupSettings(_Section, frozen=True, kw_only=True):
    """Where backups go that officers ask a running node for."""

    folder: Annotated[
        str,
        Meta(
            description="Folder for backup files, outside the home, with room for the home twice; "
            "empty = none are made.",
            extra={"unit": "path"},
        ),
    ] = ""


class ImportSettings(_Section, frozen=True, kw_only=True):
    """How files are imported."""

    batch: Annotated[
        int, Meta(ge=1, le=1000, description="Records sealed and published together.", extra={"unit": "records"})
    ] = 500
    folders: Annotated[
        str,
        Meta(
            description="Folders that imports may read, joined by `:`, where `{institution}` stands for the short name "
            "of the caller's; empty = any but the home.",
            extra={"unit": "paths"},
        ),
    ] = ""


class AnchoringSettings(_Section, frozen=True, kw_only=True):
    """How checkpoints are stamped by outside authorities."""

    authorities: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses of time-stamping authorities (RFC 3161), asked by turn; in the variable, with "
            "spaces between them.",
            extra={"unit": "addresses"},
        ),
    ] = ()
    roots: Annotated[
        str,
        Meta(description="PEM file with the authorities' root certificates.", extra={"unit": "path"}),
    ] = ""
    every: Annotated[
        int, Meta(ge=1, le=31_536_000, description="Time between two timestamps.", extra={"unit": "s"})
    ] = 3600
    max_age: Annotated[
        int,
        Meta(
            ge=0,
            le=31_536_000,
            description="No new exchange begins while the newest timestamp is older than this; 0 = off.",
            extra={"unit": "s"},
        ),
    ] = 0


class IntegritySettings(_Section, frozen=True, kw_only=True):
    """How sealed records are read again and checked."""

    rate: Annotated[
        int,
        Meta(ge=1, le=10**11, description="Bytes that the check reads in a second at most.", extra={"unit": "B/s"}),
    ] = 20_000_000
    every: Annotated[
        int,
        Meta(
            ge=0,
            le=315_360_000,
            description="Time between the beginnings of two checks; 0 = only when asked for.",
            extra={"unit": "s"},
        ),
    ] = 604_800


class LogSettings(_Section, frozen=True, kw_only=True):
    """What the node writes to its log."""

    level: Annotated[
        str,
        Meta(pattern="^(debug|info|warning|error)$", description="Least level written.", extra={"unit": "level"}),
    ] = "info"


class Settings(_Section, frozen=True, kw_only=True):
    """All settings of a node."""

    passphrase_file: Annotated[
        str,
        Meta(
            description="File with the passphrase of the keystores; empty = `<home>.passphrase` beside the home.",
            extra={"unit": "path"},
        ),
    ] = ""
    api: ApiSettings = ApiSettings()
    peer: PeerSettings = PeerSettings()
    engine: EngineSettings = EngineSettings()
    ledger: LedgerSettings = LedgerSettings()
    backup: BackupSettings = BackupSettings()
    imports: ImportSettings = ImportSettings()
    anchoring: AnchoringSettings = AnchoringSettings()
    integrity: IntegritySettings = IntegritySettings()
    log: LogSettings = LogSettings()


class SettingField(msgspec.Struct, frozen=True, kw_only=True):
    """One setting, as the documentation lists it."""

    name: str
    variable: str
    default: object
    unit: str
    doc: str


def fields() -> tuple[SettingField, ...]:
    """List every setting with its variable, default, unit and meaning."""
    return tuple(_fields(Settings, ""))


def load(file: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; a file that is absent counts as empty.

    Raises:
        SettingsError: an unknown name, or a value out of its range.
    """
    values = _read(file) if file is not None else {}
    known = {field.name for field in fields()}
    _check_names(values, known, str(file))
    for variable, text in sorted((os.environ if environment is None else environment).items()):
        name = _name_of(variable)
        if name is None:
            continue
        if name not in known:
            raise _unknown(name, known, f"variable {variable}")
        section, _, last = name.rpartition(".")
        target = values.setdefault(section, {}) if section else values
        target[last] = text.split() if name in LISTS else text
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings: {error}: correct the file or the variable") from error


def to_toml(settings: Settings) -> str:
    """Write what differs from the defaults as the text of a settings file."""
    lines, tables = [], []
    for field in fields():
        section, _, last = field.name.rpartition(".")
        holder = getattr(settings, section) if section else settings
        value = getattr(holder, last)
        if value == field.default:
            continue
        line = f"{last} = {msgspec.json.encode(value).decode()}"
        if not section:
            lines.append(line)
        else:
            header = f"[{section}]"
            tables += [line] if header in tables else [header, line]
    return "\n".join([*lines, *tables]) + "\n" if lines or tables else ""


def _fields(kind: type[msgspec.Struct], prefix: str) -> Iterator[SettingField]:
    for field in msgspec.structs.fields(kind):
        inner = field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield from _fields(inner, f"{field.name}.")
            continue
        meta = next(item for item in inner.__metadata__ if isinstance(item, Meta))
        name = prefix + field.name
        yield SettingField(
            name=name,
            variable=PREFIX + name.upper().replace(".", "__"),
            default=field.default,
            unit=str((meta.extra or {}).get("unit", "")),
            doc=meta.description or "",
        )


def _name_of(variable: str) -> str | None:
    if variable == PASSPHRASE_VARIABLE:
        return "passphrase_file"
    if variable.startswith(PREFIX) and "__" in variable:
        return variable.removeprefix(PREFIX).lower().replace("__", ".")
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file} is not readable TOML ({error}): correct it") from error


def _check_names(values: Mapping[str, Any], known: set[str], where: str) -> None:
    for name, value in values.items():
        inner = [f"{name}.{last}" for last in value] if isinstance(value, dict) else [name]
        for full in inner:
            if full not in known:
                raise _unknown(full, known, where)


def _unknown(name: str, known: set[str], where: str) -> SettingsError:
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0)
    return SettingsError(f"{where} sets {name}, which is no setting: did you mean {nearest[0]}?")
