"""`yilian network`: found a network, invite, join, propose and vote, register and stop keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from yilian.cli.access import (
    DEFAULT_HOME,
    As,
    DeviceKey,
    HomeOption,
    KeyPassphrase,
    find_access,
    load_key,
    open_client,
    read_bytes,
)
from yilian.cli.output import SHORT, coded, is_json, note, say, show, table
from yilian.errors import SettingsError
from yilian.ledger.members import HeldBy, Role

if TYPE_CHECKING:
    from yilian.ledger.cases import Command
    from yilian.workflows.governance.records import Action

app = typer.Typer(
    no_args_is_help=True,
    help=say("网络：创建、邀请、加入、提案与表决、密钥。", "The network: found, invite, join, propose, vote, keys."),
)
keys = typer.Typer(no_args_is_help=True, help=say("人员密钥：登记、停用。", "Keys of people: register, stop."))
app.add_typer(keys, name="key")

_HOME = Path(DEFAULT_HOME)
_BY_NODE = ("proposal.apply", "proposal.expire", "proposal.void")
"""Steps that need no person's signature."""


class _Who(NamedTuple):
    """As whom a verb acts, and where that person's key is if no node holds it."""

    name: str
    home: Path
    key: Path | None
    passphrase_file: Path | None


@app.command(
    help=say(
        "按描述文件（TOML）创建网络：建立各机构及其密钥，写出创世文件并由每个创始 CA 签名。",
        "Found a network from a description (TOML): make its institutions and keys, and the genesis that every "
        "founding CA signs.",
    )
    + "\n\nExample: yilian network found network.toml --home h"
)
def found(
    description: Annotated[Path, typer.Argument(help=say("描述文件。", "File that describes the network."))],
    *,
    home: HomeOption = _HOME,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo", help=say("管理员密钥放在节点上，仅供演示。", "Keep officers' keys on the node; for demos only.")
        ),
    ] = False,
) -> None:
    """Found a network."""
    from yilian.node import network
    from yilian.node.compose import now
    from yilian.node.home import Home
    from yilian.node.settings import load

    place = Home(home)
    found_it = network.found_demo if demo else network.found
    made = found_it(place, load(place.settings_file), network.read_spec(description), now())
    show(
        {
            "chain": made.chain.hex(),
            "institutions": [item.slug for item in made.institutions],
            "access_files": [str(file) for file in made.access_files],
        }
    )
    _next(say("下一步：", "next: ") + f"yilian node start --home {home}")


@app.command(
    help=say(
        "核对加入请求，发起接纳提案，并写出含一次性密钥的邀请文件；成员表决并执行后方可使用。",
        "Check a request, propose the admission, and write the invitation with its one-time key; it is good once "
        "the members have approved and the proposal is applied.",
    )
    + "\n\nExample: yilian network invite --request township.yilian-request --as centre-officer --home h"
)
def invite(
    *,
    request: Annotated[Path, typer.Option(help=say("加入请求文件。", "The request file."))],
    as_: As = "",
    home: HomeOption = _HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
    out: Annotated[Path | None, typer.Option(help=say("邀请文件。", "The invitation file to write."))] = None,
) -> None:
    """Propose an admission and write its invitation."""
    from yilian.crypto.intl import Ed25519Signer
    from yilian.node import joining
    from yilian.node.control import NodeControl
    from yilian.node.genesis import load_founding
    from yilian.node.home import Home, store_private
    from yilian.workflows.governance.model import ProposalOpen

    place = Home(home)
    asked = joining.read_request(read_bytes(request))
    one_time = Ed25519Signer.generate()
    control = NodeControl(place)
    status, peers = control.status(), control.invite(asked.ca)
    action = joining.admission(asked, one_time)
    answer = _act(_Who(as_, home, key_file, key_passphrase_file), ProposalOpen(action=action))
    invitation = joining.make_invitation(
        load_founding(place),
        asked,
        one_time,
        constitution=int(status["constitution"]),
        peers=peers,
    )
    file = out or Path(f"{request.stem}.yilian-invitation")
    store_private(file.absolute(), invitation)
    proposal = answer["case_id"]
    show({"proposal": proposal, "institution": asked.owner.hex(), "invitation": str(file)})
    said = say("下一步：每个成员的管理员 ", "next: every member's officer runs ")
    _next(f"{said}yilian network vote {proposal[:SHORT]} --choice yes --as OFFICER")


@app.command(
    help=say(
        "凭邀请加入：以一次性密钥签署唯一一次操作，绑定表决通过的 CA 与密钥，并开启机构间端口。",
        "Take up an invitation: sign the one operation with the one-time key, bind the CA and keys that were voted "
        "on, and open the institution's door.",
    )
    + "\n\nExample: yilian network join --home h --institution township --invitation township.yilian-invitation"
)
def join(
    *,
    institution: Annotated[str, typer.Option(help=say("机构简称。", "Short name of the institution."))],
    invitation: Annotated[Path, typer.Option(help=say("邀请文件。", "The invitation file."))],
    home: HomeOption = _HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Take up an invitation."""
    from yilian.node import joining
    from yilian.node.control import NodeControl
    from yilian.node.home import Home

    place = Home(home)
    content = read_bytes(invitation)
    possession = None
    mine = place.institution(institution)
    officer = joining.officer_of(mine)
    if officer.held_by != HeldBy.NODE:
        access = find_access(f"{institution}-{officer.label}", home)
        signer = load_key(access, home, key=key_file, passphrase_file=key_passphrase_file)
        chain = joining.read_invitation(content)[0].chain
        possession = signer.sign(joining.officer_message(chain, mine))
    show(NodeControl(place).join(institution, content, possession))


@app.command(
    help=say(
        "写出信任文件：链、排序节点与见证者的公钥、须有几个见证；核验证明者只需相信它。",
        "Write the trust file: chain, keys of the sequencer and the witnesses, how many must sign; it is all that who "
        "checks receipts has to believe.",
    )
    + "\n\nExample: yilian network trust -o lake.trust --as centre-officer --home h"
)
def trust(
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help=say("信任文件。", "The file to write."))],
    as_: As = "",
    home: HomeOption = _HOME,
) -> None:
    """Write the trust file."""
    with open_client(as_, home) as client:
        content = client.content("/v1/trust")
    from yilian.ledger.trust import parse_trust

    found = parse_trust(content)
    try:
        out.write_bytes(content)
    except OSError as error:
        raise SettingsError(f"{out}: {error.strerror}: name a file that can be written") from error
    operators = {one.operator for one in found.witnesses}
    show(
        {
            "trust": str(out),
            "name": found.name,
            "chain": found.chain,
            "witnesses": len(found.witnesses),
            "operators": len(operators),
            "needed": found.needed,
        }
    )
    spoken = " ".join(found.chain[at : at + 4] for at in range(0, len(found.chain), 4))
    _next(
        say(
            "请与另一成员通过电话核对创世杂凑值：",
            "compare the digest of the genesis with another member by telephone: ",
        )
        + spoken
    )


@app.command(
    help=say("列出成员：状态、类别、地址。", "List the members: state, kind, address.")
    + "\n\nExample: yilian network members --home h"
)
def members(*, home: HomeOption = _HOME) -> None:
    """List the members."""
    from yilian.node.control import NodeControl
    from yilian.node.home import Home

    columns = [
        ("slug", say("简称", "slug")),
        ("name", say("名称", "name")),
        ("kind", say("类别", "kind")),
        ("state", say("状态", "state")),
        ("address", say("机构间地址", "address")),
        ("id", say("编号", "id")),
    ]
    status = NodeControl(Home(home)).status()
    rows = [*status["institutions"], *status["elsewhere"]]
    if not is_json():
        rows = [
            row | {"kind": coded(row["kind"]), "state": coded(row["state"]), "id": row["id"][:SHORT]} for row in rows
        ]
    table(rows, columns)


@app.command(
    help=say(
        "发起提案：停权、恢复、移除成员，修改参数，更换排序节点，或修改见证数目。",
        "Propose to suspend, reinstate or remove a member, to change a parameter, to make another member the "
        "sequencer, or to ask for another number of witnesses.",
    )
    + "\n\nExample: yilian network propose parameter --name consent.lease --number 600000 --as centre-officer"
)
def propose(
    what: Annotated[str, typer.Argument(help="suspend, reinstate, remove, parameter, sequencer, witnesses")],
    *,
    member: Annotated[str, typer.Option(help=say("成员的简称、名称或编号。", "The member: name or id."))] = "",
    reason: Annotated[str, typer.Option(help=say("理由代码。", "Code of the reason."))] = "unspecified",
    name: Annotated[str, typer.Option(help=say("参数名。", "Name of the parameter."))] = "",
    number: Annotated[
        int, typer.Option(help=say("参数值，或见证数目。", "Number of the parameter, or of witnesses."))
    ] = 0,
    as_: As = "",
    home: HomeOption = _HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Open a proposal."""
    from yilian.workflows.governance.model import ProposalOpen
    from yilian.workflows.governance.records import (
        ParameterChange,
        Reinstate,
        Remove,
        SequencerReplace,
        Suspend,
        WitnessPolicyChange,
    )

    action: Action
    member_actions: dict[str, type[Suspend | Reinstate | Remove | SequencerReplace]] = {
        "suspend": Suspend,
        "reinstate": Reinstate,
        "remove": Remove,
        "sequencer": SequencerReplace,
    }
    if what == "parameter":
        action = ParameterChange(name=name, number=number, words=())
    elif what == "witnesses":
        action = WitnessPolicyChange(needed=number)
    elif what in member_actions:
        action = member_actions[what](institution=_institution(member, as_, home), reason=reason)
    else:
        raise SettingsError(
            f"{what} cannot be proposed here: choose suspend, reinstate, remove, parameter, sequencer or witnesses"
        )
    answer = _act(_Who(as_, home, key_file, key_passphrase_file), ProposalOpen(action=action))
    show(answer)
    _next(say("下一步：", "next: ") + f"yilian network vote {answer['case_id'][:SHORT]} --as OFFICER")


@app.command(
    help=say("对提案投票；新票取代旧票，直至决定。", "Cast a ballot; it replaces an earlier one until decided.")
    + "\n\nExample: yilian network vote PROPOSAL --choice yes --as hospital-officer --home h"
)
def vote(
    proposal: Annotated[
        str,
        typer.Argument(help=say("提案编号，可只写前 6 位以上。", "Id of the proposal; 6 or more digits are enough.")),
    ],
    *,
    choice: Annotated[str, typer.Option(help="yes, no, abstain")] = "yes",
    as_: As = "",
    home: HomeOption = _HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Cast a ballot."""
    from yilian.workflows.governance.model import ProposalVote
    from yilian.workflows.governance.records import Choice

    if choice not in tuple(Choice):
        raise SettingsError(f"{choice} is no choice: use yes, no or abstain")
    answer = _act(_Who(as_, home, key_file, key_passphrase_file), ProposalVote(choice=Choice(choice)), proposal)
    show(answer)
    if answer["state"] == "approved":
        said = say("已通过。延迟期满后：", "approved; once its delay is over: ")
        _next(f"{said}yilian network apply {answer['case_id'][:SHORT]} --as OFFICER")


@app.command(
    help=say("执行已通过且过了冷静期的提案。", "Carry out a proposal that is approved and past its delay.")
    + "\n\nExample: yilian network apply PROPOSAL --as centre-officer --home h"
)
def apply(
    proposal: Annotated[
        str,
        typer.Argument(help=say("提案编号，可只写前 6 位以上。", "Id of the proposal; 6 or more digits are enough.")),
    ],
    *,
    as_: As = "",
    home: HomeOption = _HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Apply a proposal."""
    from yilian.workflows.governance.model import ProposalApply

    show(_act(_Who(as_, home, key_file, key_passphrase_file), ProposalApply(), proposal))


@keys.command(
    help=say(
        "登记人员密钥：在节点上生成（或取已有的），由管理员签署登记。",
        "Register a person's key: made on the node (or the one that is there), signed for by the officer.",
    )
    + "\n\nExample: yilian network key register --label physician --role physician --as township-officer --home h"
)
def register(
    *,
    label: Annotated[str, typer.Option(help=say("标签，不可是姓名。", "Label; never the person's name."))],
    role: Annotated[str, typer.Option(help=say("角色，如 physician。", "Role, such as physician."))],
    held_by: Annotated[
        HeldBy,
        typer.Option(
            help=say(
                "私钥保管处；device 时密钥文件写在主目录旁，待移交。",
                "Where the key lies; for a device its file is written beside the home, to hand over.",
            )
        ),
    ] = HeldBy.NODE,
    licence: Annotated[str, typer.Option(help=say("执业证号，仅其承诺值上链。", "Number of the licence."))] = "",
    as_: As = "",
    home: HomeOption = _HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Register a key."""
    from yilian.node.control import NodeControl
    from yilian.node.home import Home
    from yilian.node.joining import registration

    _check_role(role)
    access = find_access(as_, home)
    person = {"label": label, "role": role, "held_by": held_by.value, "licence": licence}
    made = NodeControl(Home(home)).make_key(access.institution, person)
    answer = _act(_Who(as_, home, key_file, key_passphrase_file), registration(made))
    show({**answer, "key_id": made["key_id"]})


@keys.command(
    help=say("永久停用一个密钥。", "Stop a key for good.")
    + "\n\nExample: yilian network key revoke KEY_ID --reason lost --as centre-officer --home h"
)
def revoke(
    key: Annotated[
        str, typer.Argument(help=say("密钥编号，可只写前 6 位以上。", "Id of the key; 6 or more digits are enough."))
    ],
    *,
    reason: Annotated[str, typer.Option(help=say("理由代码。", "Code of the reason."))] = "unspecified",
    as_: As = "",
    home: HomeOption = _HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
) -> None:
    """Revoke a key."""
    from yilian.values import unix_millis
    from yilian.workflows.governance.model import KeyRevoke

    show(
        _act(
            _Who(as_, home, key_file, key_passphrase_file),
            KeyRevoke(reason=reason, compromised_since=unix_millis(0)),
            key,
        )
    )


def _act(who: _Who, command: Command, case: str | None = None) -> dict[str, Any]:
    from yilian.web.kit.jsonform import to_json
    from yilian.workflows import governance

    word = next(row.name for kind in governance.WORKFLOW.cases for row in kind.rows if row.command is type(command))
    body = to_json(command)
    access = find_access(who.name, who.home)
    with open_client(who.name, who.home) as client:
        case = client.resolve(case) if case is not None else None
        answer: dict[str, Any]
        if access.held_by == HeldBy.NODE or word in _BY_NODE:
            answer = client.act("governance", word, body, case_id=case)
        else:
            signer = load_key(access, who.home, key=who.key, passphrase_file=who.passphrase_file)
            draft = client.draft("governance", word, body, case_id=case)
            answer = client.sign_and_submit(draft, signer)
    return answer


def _check_role(role: str) -> None:
    of_people = [one.value for one in Role if one not in {Role.NODE, Role.NEWCOMER, Role.PATIENT}]
    if role not in of_people:
        raise SettingsError(f"{role} is no role of a person, expected one of {', '.join(of_people)}: name one")


def _next(text: str) -> None:
    if not is_json():
        note(text)


def _institution(text: str, as_: str, home: Path) -> Any:  # noqa: ANN401 - an InstitutionId
    from yilian.values import institution_id

    if not text:
        raise SettingsError("no member is named, expected --member: give a name or id of `network members`")
    with open_client(as_, home) as client:
        return institution_id(bytes.fromhex(client.institution(text)))
