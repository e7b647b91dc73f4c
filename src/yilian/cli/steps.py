"""How verbs take steps: as whom, with which key, what comes next; verbs that are one row of a table are made here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from yilian.cli.access import DEFAULT_HOME, As, DeviceKey, HomeOption, KeyPassphrase, find_access, load_key, open_client
from yilian.cli.output import SHORT, is_json, note, say, show, table
from yilian.errors import NoGrantError, NotFoundError, SettingsError
from yilian.values import civil_from_day

if TYPE_CHECKING:
    from yilian.client.http import Client
    from yilian.client.wallet import Wallet
    from yilian.crypto.suite import Signer

HOME = Path(DEFAULT_HOME)
Json = dict[str, Any]

CaseArgument = Annotated[
    str, typer.Argument(help=say("编号，可只写前 6 位以上。", "Id; its first 6 or more digits are enough."))
]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help=say("最多行数。", "Rows at most."))]
States = Annotated[
    list[str] | None, typer.Option("--state", help=say("只列这些状态。", "Only these states; may be repeated."))
]
WalletFile = Annotated[
    Path | None, typer.Option("--wallet", help=say("患者的钱包文件。", "The patient's wallet file."))
]
WalletPassphrase = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        envvar="YILIAN_WALLET_PASSPHRASE_FILE",
        help=say("钱包口令文件；不给则在终端询问。", "File with the wallet's passphrase; asked for where not given."),
    ),
]
Paper = Annotated[
    str,
    typer.Option(
        help=say("纸质件的条目编号（本机构代签时）。", "Entry of the signed paper, where the home signs."),
    ),
]


class Who(NamedTuple):
    """As whom a verb acts, and where that person's key is if no node holds it."""

    name: str
    home: Path
    key: Path | None = None
    passphrase_file: Path | None = None

    def client(self) -> Client:
        """Open the access to the node."""
        return open_client(self.name, self.home)


class Step(NamedTuple):
    """One step of a workflow."""

    workflow: str
    command: str
    body: Mapping[str, Any] = {}
    case: str | None = None
    refs: Sequence[str] = ()
    op: str | None = None
    claims: Mapping[str, str] = {}


def take(who: Who, client: Client, step: Step) -> Json:
    """Take a step: signed on the node where it holds the key, else drafted, signed here, handed in."""
    options = {"case_id": step.case, "refs": step.refs, "op_id": step.op, "claims": step.claims}
    try:
        return client.act(step.workflow, step.command, step.body, **options)  # type: ignore[arg-type]  # by name
    except NoGrantError:
        if client.me()["signs_here"] or (who.key is None and not _has_device_key(who)):
            raise
    signer = load_key(find_access(who.name, who.home), who.home, key=who.key, passphrase_file=who.passphrase_file)
    draft = client.draft(step.workflow, step.command, step.body, **options)  # type: ignore[arg-type]  # by name
    return client.sign_and_submit(draft, signer)


def take_together(client: Client, second: str, home: Path, step: Step) -> Json:
    """Take a step that two people sign, both with keys on the node."""
    draft = client.draft(step.workflow, step.command, step.body, case_id=step.case, refs=step.refs, claims=step.claims)
    with open_client(second, home) as other:
        return client.submit(draft, [client.sign(draft), other.sign(draft)])


def take_as_patient(client: Client, wallet: Wallet, step: Step) -> Json:
    """Take a step with the wallet's key of the case.

    Raises:
        NotFoundError: the patient of the case is another's, or signs through a home.
    """
    if step.case is None:
        raise SettingsError("a patient's step names its case: give the id")
    signer = _patient_signer(client.case(step.case), wallet)
    draft = client.draft(
        step.workflow,
        step.command,
        step.body,
        case_id=step.case,
        refs=step.refs,
        signers=[(signer.key_id.hex(), "patient")],
        claims=step.claims,
    )
    return client.sign_and_submit(draft, signer)


def take_for_patient(who: Who, step: Step, *, wallet: Path | None, passphrase_file: Path | None, paper: str) -> Json:
    """Take a step of the patient on a case: with the wallet, or as the home with the paper of an entry."""
    with who.client() as client:
        target = client.resolve(step.case or "")
        if wallet is not None:
            opened = open_wallet(wallet, passphrase_file)
            return take_as_patient(client, opened, step._replace(body={**step.body, "paper": None}, case=target))
        body = {**step.body, "paper": paper_of(client, paper) if paper else None}
        return take(who, client, step._replace(body=body, case=target))


def slug_of(client: Client, institution: str) -> str:
    """Give the short name of a member, empty where its node is elsewhere."""
    return next((str(one["slug"]) for one in client.get("/v1/network/members") if one["id"] == institution), "")


def paper_of(client: Client, entry: str) -> str:
    """Give the commitment of a paper that was published as an entry."""
    return str(client.case(client.resolve(entry))["fields"]["commitment"])


def open_wallet(file: Path, passphrase_file: Path | None) -> Wallet:
    """Open a wallet with the passphrase of a file, or asked for on the terminal."""
    from yilian.client.wallet import Wallet

    return Wallet.load(file, wallet_passphrase(passphrase_file))


def wallet_passphrase(file: Path | None, *, confirm: bool = False) -> bytes:
    """Read the passphrase of a wallet; SettingsError where it is empty or cannot be read."""
    if file is None:
        given = str(
            typer.prompt(say("钱包口令", "Passphrase of the wallet"), hide_input=True, confirmation_prompt=confirm)
        )
        return given.encode()
    try:
        content = file.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}: name the file with the wallet's passphrase") from error
    if not content:
        raise SettingsError(f"{file} is empty: write the wallet's passphrase into it")
    return content


def hint(who: Who, command: str, *, as_: str | None = None, first: str = "") -> None:
    """Say which command comes next, ready to be copied; `first` is what the shell does before."""
    if is_json():
        return
    name = who.name if as_ is None else as_
    words = [f"{first}yilian {command}"]
    if os.environ.get("YILIAN_CLIENT") != name or as_ is not None:
        words.append(f"--as {name}")
    if who.home != Path(os.environ.get("YILIAN_HOME", DEFAULT_HOME)):
        words.append(f"--home {who.home}")
    note(say("下一步：", "next: ") + " ".join(words))


def colleague(who: Who, institution: str, label: str) -> str:
    """Name the access file of a person of an institution, as a demo or a hosting node has it."""
    from yilian.node.home import Home

    name = f"{institution}-{label}"
    place = Home(who.home)
    there = (place.clients / f"{name}.toml").is_file() or (place.people / f"{name}.toml").is_file()
    return name if there else say(f"<{institution} 的访问文件>", f"<access file of {institution}>")


def refer_hint(who: Who, client: Client, subject: str) -> None:
    """Say how to refer a resident: a scan stands for the signed paper, any hospital for the receiver."""
    members = client.get("/v1/network/members")
    me = client.me()["institution"]
    hospitals = [one for one in members if one["kind"] == "hospital" and one["id"] != me and one["state"] == "active"]
    to = (hospitals[0]["slug"] or hospitals[0]["id"]) if hospitals else "INSTITUTION"
    purpose = say("心血管病高危，请接诊", "high cardiovascular risk")
    paper = "consent.txt"
    made = "" if Path(paper).is_file() else f"echo signed > {paper} && "
    hint(who, f'referral create --subject {subject} --to {to} --purpose "{purpose}" --paper {paper}', first=made)


def short(identifier: str) -> str:
    """Shorten an id as tables and hints show it."""
    return identifier[:SHORT]


def names_of(client: Client) -> dict[str, str]:
    """Give the members' names by their ids."""
    return {one["id"]: one["slug"] or one["name"] for one in client.get("/v1/network/members")}


def show_cases(
    client: Client, kind: str, columns: Sequence[tuple[str, str]], *, limit: int, **query: object
) -> list[Json]:
    """List cases of a type as a table; columns name fields of the case, ids of members become names."""
    _check_states(kind, query.get("state"))
    names = names_of(client)
    rows = list(client.pages("/v1/cases", most=limit, kind=kind, **query))
    if is_json():
        table(rows, ())
        return rows
    printed = [
        {"id": short(row["case_id"]), "state": state_said(row), "flags": ", ".join(row["flags"])}
        | {name: _shown(row["fields"].get(name), names, name) for name, _ in columns}
        for row in rows
    ]
    head = [("id", say("编号", "id")), ("state", say("状态", "state"))]
    table(printed, [*head, *columns, ("flags", say("标志", "flags"))])
    return rows


def show_case(client: Client, case: str) -> Json:
    """Show a case with what can be done now; gives it."""
    found = client.case(client.resolve(case))
    if is_json():
        show(found)
        return found
    names = names_of(client)
    fields = _flat(found["fields"], names)
    patient = found["patient"] or {}
    said = say("患者本人密钥", "own key") if patient.get("key") else names.get(patient.get("home") or "", "")
    show(
        {
            "id": found["case_id"],
            "kind": found["kind"],
            "state": state_said(found),
            "flags": list(found["flags"]),
            "patient": said or None,
            "changed": moment(found["changed_time"]),
        }
        | fields
        | _flat(found["registers"], names)
    )
    mine = [one for one in found["actions"] if one["mine"]]
    for one in mine:
        note(say("现在可以：", "you can now: ") + f"{one['command']} {one['title']}")
    return found


def state_said(row: Mapping[str, Any]) -> str:
    """Give a state by its code, and by its words where they say more."""
    state, title = str(row["state"]), str(row["title"])
    return state if title.lower().replace(" ", "_") == state else f"{state} {title}"


def _flat(fields: Mapping[str, Any], names: Mapping[str, str], before: str = "") -> Json:
    """Lay nested fields out, a line each."""
    found: Json = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found |= _flat(value, names, f"{before}{name}.")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            for number, one in enumerate(value, 1):
                found |= _flat(one, names, f"{before}{name}.{number}.")
        else:
            found[f"{before}{name}"] = _shown(value, names, name, whole=True)
    return found


def moment(millis: int) -> str:
    """Write a time at UTC+8."""
    from datetime import UTC, datetime, timedelta, timezone

    if not 0 < millis < 253_402_300_800_000:
        return "-"
    zone = timezone(timedelta(hours=8))
    return datetime.fromtimestamp(millis / 1000, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S+08")


class Verb(NamedTuple):
    """A verb that is one command of a table, with nothing to fill in but the case."""

    name: str
    workflow: str
    command: str
    zh: str
    en: str
    example: str
    body: Mapping[str, Any] = {}
    following: Callable[[Who, Json], None] = lambda _who, _answer: None


def add_verb(app: typer.Typer, verb: Verb) -> None:
    """Add such a verb to a noun."""

    def run(
        case: CaseArgument,
        *,
        as_: As = "",
        home: HomeOption = HOME,
        key_file: DeviceKey = None,
        key_passphrase_file: KeyPassphrase = None,
    ) -> None:
        who = Who(as_, home, key_file, key_passphrase_file)
        with who.client() as client:
            target = client.resolve(case)
            answer = take(who, client, Step(verb.workflow, verb.command, verb.body, case=target))
        show(answer)
        verb.following(who, answer)

    app.command(verb.name, help=say(verb.zh, verb.en) + f"\n\nExample: {verb.example}")(run)


def add_any_step(app: typer.Typer, workflow: str, example: str) -> None:
    """Add `step`: any command of a workflow's tables, with its fields as JSON."""

    def step(
        command: Annotated[str, typer.Argument(help=say("命令词。", "Word of the command."))],
        case: Annotated[
            str, typer.Argument(help=say("案件编号，开案时留空。", "Id of the case; empty opens one."))
        ] = "",
        *,
        body: Annotated[str, typer.Option(help=say("命令字段，JSON。", "Fields of the command, JSON."))] = "{}",
        ref: Annotated[list[str] | None, typer.Option(help=say("引用的案件。", "A case that it names."))] = None,
        claim: Annotated[
            list[str] | None,
            typer.Option(
                help=say(
                    "附加声明 名称=内容：内容留在本机构，账上只有加盐的根。",
                    "A claim NAME=VALUE: it stays here, the ledger gets a salted root.",
                )
            ),
        ] = None,
        second: Annotated[
            str, typer.Option(help=say("第二名签署人的访问文件。", "Access file of the second person who signs."))
        ] = "",
        as_: As = "",
        home: HomeOption = HOME,
        key_file: DeviceKey = None,
        key_passphrase_file: KeyPassphrase = None,
    ) -> None:
        fields = json_object(body)
        _check_command(workflow, command)
        who = Who(as_, home, key_file, key_passphrase_file)
        with who.client() as client:
            refs = [client.resolve(one) for one in ref or ()]
            target = client.resolve(case) if case else None
            taken = Step(workflow, command, fields, case=target, refs=refs, claims=claims_of(claim or ()))
            show(take_together(client, second, home, taken) if second else take(who, client, taken))

    text = say("执行流程表中的任一步骤。", "Take any step of the workflow's tables.")
    app.command("step", help=f"{text}\n\nExample: {example}")(step)


def _check_command(workflow: str, command: str) -> None:
    from yilian.workflows.registry import WORKFLOWS

    known = {row.name for one in WORKFLOWS if one.name == workflow for case in one.cases for row in case.rows}
    if command not in known:
        raise SettingsError(f"{command} is no command, expected a word of `yilian workflow show {workflow}`: take one")


def _check_states(kind: str, states: object) -> None:
    from yilian.workflows.registry import WORKFLOWS

    known = [str(state) for one in WORKFLOWS for case in one.cases if case.word == kind for state in case.states]
    asked = states if isinstance(states, tuple) else ()
    if unknown := [one for one in asked if one not in known]:
        raise SettingsError(f"{unknown[0]} is no state of a {kind}, expected one of {', '.join(known)}: name one")


def json_object(text: str) -> Json:
    """Read a JSON object that the user wrote; SettingsError where it is none."""
    import msgspec

    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise SettingsError(f"that is no JSON object ({error}): write it as {{...}}") from error


def claims_of(given: Sequence[str]) -> dict[str, str]:
    """Read claims written as NAME=VALUE; SettingsError for one without `=`, or a name given twice."""
    found = dict(one.split("=", 1) for one in given if "=" in one)
    if len(found) != len(given):
        raise SettingsError("a claim is not of the form NAME=VALUE, or a name stands twice: write it as batch=B-17")
    return found


def _patient_signer(case: Json, wallet: Wallet) -> Signer:
    """Give the wallet's key that a case names: its own, or that of the consent on which it relies."""
    from yilian.values import case_id

    wanted = (case["patient"] or {}).get("key")
    for name in (case["case_id"], case["fields"].get("covered_by"), case["fields"].get("consent")):
        signer = wallet.case_signer(case_id(bytes.fromhex(name))) if name else None
        if signer is not None and signer.public_key.hex() == wanted:
            return signer
    raise NotFoundError(f"case {case['case_id']} names no key of this wallet: use the patient's own wallet, or a paper")


def _has_device_key(who: Who) -> bool:
    from yilian.node.home import Home

    access = find_access(who.name, who.home)
    return (Home(who.home).people / f"{access.institution}-{access.label}.key").is_file()


def _shown(  # noqa: PLR0911 - one return a kind of value
    value: object, names: Mapping[str, str], field: str, *, whole: bool = False
) -> Any:  # noqa: ANN401 - a cell
    if isinstance(value, str) and value in names:
        return names[value]
    if isinstance(value, str) and len(value) == 64 and not whole:
        return short(value)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(names.get(one, short(one) if len(one) == 64 else one) for one in value)
    if isinstance(value, int) and field in {"month", "month_from", "month_to"}:
        return f"{value // 12}-{value % 12 + 1:02}"
    if isinstance(value, int) and field == "day":
        return "{}-{:02}-{:02}".format(*civil_from_day(value))  # type: ignore[arg-type]  # days since 1970-01-01
    if isinstance(value, int) and value > 1_000_000_000_000 and field != "maximum":
        return moment(value)
    return value
