"""`yilian consent`: what a patient agrees to: propose, sign, attest, narrow, revoke."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yilian.cli.access import As, DeviceKey, HomeOption, KeyPassphrase, read_bytes
from yilian.cli.output import say, show
from yilian.cli.steps import (
    HOME,
    CaseArgument,
    Json,
    Limit,
    Paper,
    States,
    Step,
    Verb,
    WalletFile,
    WalletPassphrase,
    Who,
    add_any_step,
    add_verb,
    hint,
    open_wallet,
    paper_of,
    short,
    show_case,
    show_cases,
    take,
    take_as_patient,
    take_for_patient,
)
from yilian.errors import SettingsError

if TYPE_CHECKING:
    from yilian.client.http import Client

DAY_MS = 86_400_000
app = typer.Typer(
    no_args_is_help=True, help=say("知情同意：提请、签署、核实、撤回。", "Consents: propose, sign, attest, revoke.")
)


@app.command(
    help=say(
        "向患者提请同意：谁可为何目的用谁保管的哪些病历，多久、多少次。给出 --wallet 则由患者本人签，"
        "否则由本机构凭纸质件代签。",
        "Put a policy to a patient: who may use whose records for what, how long, how often. With --wallet the "
        "patient's own key will sign it, otherwise this institution with the paper.",
    )
    + "\n\nExample: yilian consent propose --to hospital --days 90 --as centre-physician --home h"
)
def propose(
    *,
    to: Annotated[list[str], typer.Option(help=say("接收机构，可重复。", "Recipient; may be repeated."))],
    of: Annotated[
        list[str] | None, typer.Option(help=say("保管机构，默认本机构。", "Custodian; this institution by default."))
    ] = None,
    purpose: Annotated[list[str] | None, typer.Option(help="TREAT, LOCATE, HRESCH …")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help=say("类别代码，默认全部。", "Class code; all by default."))
    ] = None,
    level: Annotated[int, typer.Option(min=1, max=4, help=say("最高级别。", "Highest level."))] = 4,
    days: Annotated[int, typer.Option(min=1, max=3_650, help=say("有效天数。", "Days."))] = 90,
    maximum: Annotated[int, typer.Option(min=1, max=1_000_000, help=say("总交付次数。", "Deliveries in all."))] = 100,
    depth: Annotated[int, typer.Option(min=0, max=3, help=say("可再转授几层。", "How often it may be passed on."))] = 0,
    access: Annotated[str, typer.Option(help="view, store")] = "store",
    text: Annotated[
        Path | None, typer.Option(help=say("给患者看的文本。", "Text shown to the patient; ours by default."))
    ] = None,
    replaces: Annotated[str, typer.Option(help=say("取代的同意。", "Consent that it replaces."))] = "",
    wallet: WalletFile = None,
    passphrase_file: WalletPassphrase = None,
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Propose a consent."""
    who = Who(as_, home, key_file, key_passphrase_file)
    with who.client() as client:
        me = client.me()
        terms = _Terms(client)
        policy = terms.policy(
            recipients=[client.institution(one) for one in to],
            custodians=[client.institution(one) for one in of or ()] or [me["institution"]],
            purposes=purpose or ["TREAT"],
            kinds=kind or [],
            level=level,
            days=days,
            limits=(maximum, depth, access),
        )
        op = secrets.token_hex(16)
        patient: Json = {"key": None, "home": me["institution"]}
        if wallet is not None:
            patient = {"key": _case_key(wallet, passphrase_file, me, op), "home": None}
        body = terms.command(patient, policy, text, client.resolve(replaces) if replaces else None)
        answer = take(who, client, Step("consent", "consent.propose", body, op=op))
    show(answer)
    case = short(answer["case_id"])
    signing = f"--wallet {wallet}" if wallet is not None else "--paper ENTRY"
    hint(who, f"consent sign {case} {signing}")


@app.command(
    help=say(
        "签署同意：患者用钱包，或本机构凭已发布的纸质件（医师或护士见证）。",
        "Sign a consent: the patient with the wallet, or this institution with the paper that was published as an "
        "entry, witnessed by a physician or nurse.",
    )
    + "\n\nExample: yilian consent sign CONSENT --wallet patient.wallet --as centre-physician --home h"
)
def sign(
    case: CaseArgument,
    *,
    wallet: WalletFile = None,
    passphrase_file: WalletPassphrase = None,
    paper: Paper = "",
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Sign a consent."""
    who = Who(as_, home, key_file, key_passphrase_file)
    with who.client() as client:
        target = client.resolve(case)
        text = client.case(target)["fields"]["text"]
        if wallet is not None:
            body = {"text": text, "paper": None, "paper_entry": None}
            step = Step("consent", "consent.sign", body, case=target)
            answer = take_as_patient(client, open_wallet(wallet, passphrase_file), step)
        elif paper:
            entry = client.resolve(paper)
            body = {"text": text, "paper": paper_of(client, entry), "paper_entry": entry}
            answer = take(who, client, Step("consent", "consent.sign", body, case=target))
        else:
            raise SettingsError("nobody signs, expected --wallet or --paper: give the wallet, or the paper's entry")
    show(answer)
    hint(who, f"grant issue --consent {short(target)} --to hospital --entry ENTRY")


@app.command(
    help=say("撤回同意及凭它发出的全部授权令。", "Take a consent back, with every grant that relies on it.")
    + "\n\nExample: yilian consent revoke CONSENT --wallet patient.wallet --as centre-physician --home h"
)
def revoke(
    case: CaseArgument,
    *,
    wallet: WalletFile = None,
    passphrase_file: WalletPassphrase = None,
    paper: Paper = "",
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Revoke a consent."""
    _patient_says(Who(as_, home, key_file, key_passphrase_file), "revoke", case, (wallet, passphrase_file, paper))


@app.command(
    help=say("拒绝提请的同意。", "Say no to a proposal.")
    + "\n\nExample: yilian consent reject CONSENT --wallet patient.wallet --as centre-physician --home h"
)
def reject(
    case: CaseArgument,
    *,
    wallet: WalletFile = None,
    passphrase_file: WalletPassphrase = None,
    paper: Paper = "",
    as_: As = "",
    home: HomeOption = HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Reject a proposal."""
    _patient_says(Who(as_, home, key_file, key_passphrase_file), "reject", case, (wallet, passphrase_file, paper))


@app.command(
    "list",
    help=say("列出同意。", "List consents.")
    + "\n\nExample: yilian consent list --state active --as centre-physician --home h",
)
def list_(*, state: States = None, limit: Limit = 20, as_: As = "", home: HomeOption = HOME) -> None:
    """List consents."""
    who = Who(as_, home)
    columns = (("institution", say("提请机构", "proposer")), ("ends", say("到期", "ends")))
    with who.client() as client:
        rows = show_cases(client, "consent", columns, limit=limit, state=tuple(state or ()))
    if rows:
        hint(who, f"consent show {short(rows[0]['case_id'])}")


@app.command(
    "show",
    help=say("查看一份同意及现在可做的事。", "Show a consent and what can be done now.")
    + "\n\nExample: yilian consent show CONSENT --as centre-physician --home h",
)
def show_(case: CaseArgument, *, as_: As = "", home: HomeOption = HOME) -> None:
    """Show a consent."""
    with Who(as_, home).client() as client:
        show_case(client, case)


class _Terms:
    """Writes the command of a proposal from what was asked on the command line."""

    def __init__(self, client: Client) -> None:
        self._now = int(client.get("/v1/ledger")["time"])

    def policy(
        self,
        *,
        recipients: list[str],
        custodians: list[str],
        purposes: list[str],
        kinds: list[str],
        level: int,
        days: int,
        limits: tuple[int, int, str],
    ) -> Json:
        from yilian.web.kit.jsonform import to_json
        from yilian.workflows.consent.policy import Effect, provision

        base = to_json(provision(Effect.PERMIT, levels=(1, level)))
        base |= {"recipients": recipients, "custodians": custodians, "purposes": purposes, "kinds": kinds}
        maximum, depth, access = limits
        return {
            "begins": self._now,
            "ends": self._now + days * DAY_MS,
            "maximum": maximum,
            "depth": depth,
            "access": access,
            "erase_by": None,
            "base": base,
            "exceptions": [],
        }

    def command(self, patient: Json, policy: Json, text: Path | None, replaces: str | None) -> Json:
        from yilian.crypto.suite import sha256
        from yilian.workflows.consent.asking import POLICY_URI, text_digest

        language = say("zh", "en")
        digest = text_digest(language) if text is None else sha256(read_bytes(text))
        return {
            "patient": patient,
            "text": digest.hex(),
            "language": language,
            "policy_uri": sha256(POLICY_URI.encode()).hex(),
            "policy": policy,
            "replaces": replaces,
        }


def _case_key(wallet: Path, passphrase_file: Path | None, me: Json, op: str) -> str:
    from yilian.client.wallet import opened_case_id
    from yilian.values import digest, institution_id, op_id

    opened = open_wallet(wallet, passphrase_file)
    chain, actor = digest(bytes.fromhex(me["chain"])), institution_id(bytes.fromhex(me["institution"]))
    return opened.case_signer(opened_case_id(chain, actor, op_id(bytes.fromhex(op)))).public_key.hex()


def _patient_says(who: Who, verb: str, case: str, signing: tuple[Path | None, Path | None, str]) -> None:
    wallet, passphrase_file, paper = signing
    step = Step("consent", f"consent.{verb}", {}, case=case)
    show(take_for_patient(who, step, wallet=wallet, passphrase_file=passphrase_file, paper=paper))


def _attested(who: Who, answer: Json) -> None:
    hint(who, f"grant issue --consent {short(answer['case_id'])} --to hospital --entry ENTRY")


add_verb(
    app,
    Verb(
        name="attest",
        workflow="consent",
        command="consent.attest",
        zh="作为保管机构核实：签署人确为本机构条目的患者（数据管理员）。",
        en="Attest as custodian that who signed speaks for the subject of entries here (as a data officer).",
        example="yilian consent attest CONSENT --as hospital-data-officer --home h",
        following=_attested,
    ),
)
add_any_step(app, "consent", "yilian consent step consent.expire CONSENT --as centre-data-officer --home h")
