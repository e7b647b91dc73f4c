"""`yilian wallet`: a patient's own keys: make a wallet, register it, list entries, sign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from yilian.cli.access import As, HomeOption, read_bytes
from yilian.cli.output import is_json, note, say, show, table
from yilian.cli.steps import (
    HOME,
    WalletPassphrase,
    Who,
    hint,
    json_object,
    names_of,
    open_wallet,
    short,
    wallet_passphrase,
)
from yilian.errors import SettingsError

app = typer.Typer(
    no_args_is_help=True,
    help=say("患者钱包：新建、登记、列出条目、签署。", "A patient's wallet: new, register, entries, sign."),
)
WalletArgument = Annotated[Path, typer.Argument(help=say("钱包文件。", "File of the wallet."))]


@app.command(
    help=say("新建钱包：一个加密文件。", "Make a wallet: one encrypted file.")
    + "\n\nExample: yilian wallet new patient.wallet --passphrase-file secret.txt"
)
def new(wallet: WalletArgument, *, passphrase_file: WalletPassphrase = None) -> None:
    """Make a wallet."""
    from yilian.client.wallet import Wallet

    made = Wallet.create(wallet, wallet_passphrase(passphrase_file, confirm=True))
    show({"wallet": str(wallet), "exchange_key": made.exchange_key.hex()})
    if is_json():
        return
    note(
        say("下一步（由医护人员）：", "next (by the institution's staff): ")
        + f"yilian wallet register {wallet} --subject REF --as centre-physician"
    )


@app.command(
    help=say(
        "在一家机构登记患者的钱包，并取回封给它的患者密钥。",
        "Register a patient's wallet at an institution, and take the subject keys sealed to it.",
    )
    + "\n\nExample: yilian wallet register patient.wallet --subject REF --as centre-physician --home h"
)
def register(
    wallet: WalletArgument,
    *,
    subject: Annotated[str, typer.Option(help=say("患者的本地代号。", "The patient, as the institution names it."))],
    passphrase_file: WalletPassphrase = None,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Register a wallet."""
    from yilian.values import digest, institution_id

    opened = open_wallet(wallet, passphrase_file)
    who = Who(as_, home)
    with who.client() as client:
        asked = {"subject": subject, "exchange_key": opened.exchange_key.hex()}
        keys = client.post("/v1/wallets", asked)
        chain = digest(bytes.fromhex(client.me()["chain"]))
    sealed = [
        (institution_id(bytes.fromhex(key["custodian"])), key["year"], bytes.fromhex(key["wrapped"])) for key in keys
    ]
    added = opened.add_keys(chain, sealed)
    show({"keys": len(keys), "new": added})
    hint(who, f"wallet entries {wallet}")


@app.command(
    help=say("列出患者在各机构的条目。", "List the patient's entries at every institution.")
    + "\n\nExample: yilian wallet entries patient.wallet --as centre-physician --home h"
)
def entries(
    wallet: WalletArgument, *, passphrase_file: WalletPassphrase = None, as_: As = "", home: HomeOption = HOME
) -> None:
    """List the patient's entries."""
    from yilian.values import case_id, digest

    opened = open_wallet(wallet, passphrase_file)
    with Who(as_, home).client() as client:
        chain = digest(bytes.fromhex(client.me()["chain"]))
        names = names_of(client)

        def look_up(ids: Any) -> dict[Any, object]:  # noqa: ANN401 - entry ids, loaded late
            found = client.post("/v1/entries/find", {"ids": [one.hex() for one in ids]})
            return {case_id(bytes.fromhex(one["case_id"])): one for one in found}

        listed = opened.entries(chain, look_up)
    rows: list[dict[str, Any]] = [
        {
            "entry": item.entry.hex() if is_json() else short(item.entry.hex()),
            "custodian": names.get(item.custodian.hex(), short(item.custodian.hex())),
            "year": item.year,
            "number": item.number,
            "kind": _row(item.row)["fields"]["kind"],
            "state": _row(item.row)["state"],
        }
        for item in listed
    ]
    table(rows, _COLUMNS)


@app.command(
    help=say(
        "签署一份草稿（JSON 文件，来自 …/draft），输出签名；加 --submit 则直接提交。",
        "Sign a draft (a JSON file that …/draft gave) and print the signatures; with --submit hand it in.",
    )
    + "\n\nExample: yilian wallet sign patient.wallet --draft draft.json --submit --as centre-physician --home h"
)
def sign(
    wallet: WalletArgument,
    *,
    draft: Annotated[Path, typer.Option(help=say("草稿文件。", "File of the draft."))],
    submit: Annotated[bool, typer.Option("--submit", help=say("直接提交。", "Hand it in."))] = False,
    passphrase_file: WalletPassphrase = None,
    as_: As = "",
    home: HomeOption = HOME,
) -> None:
    """Sign a draft."""
    from yilian.client.http import signed

    asked = json_object(read_bytes(draft).decode())
    if not {"core", "case_id", "to_sign"} <= set(asked):
        raise SettingsError(f"{draft} is no draft, expected core, case_id and to_sign: save what …/draft answered")
    signer = _case_signer(wallet, passphrase_file, asked["case_id"])
    persons = signed(asked, signer)
    if not submit:
        show({"core": asked["core"], "persons": persons})
        return
    with Who(as_, home).client() as client:
        show(client.submit(asked, persons))


@app.command(
    help=say("给出钱包在某案件的公钥与密钥编号。", "Give the wallet's public key and key id for a case.")
    + "\n\nExample: yilian wallet key patient.wallet --case CASE"
)
def key(
    wallet: WalletArgument,
    *,
    case: Annotated[str, typer.Option(help=say("案件编号（64 位）。", "Id of the case, whole."))],
    passphrase_file: WalletPassphrase = None,
) -> None:
    """Give the key of a case."""
    signer = _case_signer(wallet, passphrase_file, case)
    show({"public_key": signer.public_key.hex(), "key_id": signer.key_id.hex(), "role": "patient"})


_COLUMNS = (
    ("entry", say("条目", "entry")),
    ("custodian", say("保管机构", "custodian")),
    ("year", say("年", "year")),
    ("number", say("序号", "number")),
    ("kind", say("类别", "class")),
    ("state", say("状态", "state")),
)


def _case_signer(wallet: Path, passphrase_file: Path | None, case: str) -> Any:  # noqa: ANN401 - a signer, loaded late
    from yilian.values import case_id

    try:
        target = case_id(bytes.fromhex(case))
    except ValueError as error:
        raise SettingsError(f"case {case!r}: {error}: give its id whole, 64 hex digits") from error
    return open_wallet(wallet, passphrase_file).case_signer(target)


def _row(row: object) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TypeError("a row of the lookup is a JSON object")
    return row
