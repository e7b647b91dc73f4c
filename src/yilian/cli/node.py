"""`yilian node`: make an institution and join with it, run the node of a home, say how it stands, check it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from yilian.cli.access import DEFAULT_HOME, DeviceKey, HomeOption, KeyPassphrase, find_access, load_key, read_bytes
from yilian.cli.backup import back_up_closed, restore_home
from yilian.cli.output import coded, is_json, note, progress, say, show, table
from yilian.cli.steps import moment
from yilian.errors import VerificationError
from yilian.ledger.members import HeldBy, InstitutionKind, Role

app = typer.Typer(
    no_args_is_help=True,
    help=say("节点：初始化、加入、启动、状态、检查。", "The node: initialise, join, start, status, check."),
)

_HOME = Path(DEFAULT_HOME)


@app.command(
    help=say(
        "新建一个申请加入的机构，并写出加入请求文件（CA 证书、网关密钥、首个机构管理员密钥，均附持有证明）。",
        "Make an institution that is to join, and write its request file: CA, gateway keys, first officer's key.",
    )
    + "\n\nExample: yilian node init --home h --slug township --name 'Township Centre' --kind community_centre"
)
def init(
    *,
    slug: Annotated[str, typer.Option(help=say("简称，小写字母。", "Short name in lower case."))],
    name: Annotated[str, typer.Option(help=say("公开名称。", "Public name."))],
    kind: Annotated[InstitutionKind, typer.Option(help=say("机构类别。", "Kind of institution."))],
    home: HomeOption = _HOME,
    grade: Annotated[str, typer.Option(help=say("等级代码。", "Code of its grade."))] = "none",
    district: Annotated[str, typer.Option(help=say("行政区划代码。", "Code of its district."))] = "000000",
    officer: Annotated[
        HeldBy,
        typer.Option(
            help=say(
                "管理员密钥保管处；node 仅演示网络允许。",
                "Where the officer's key lies; node is for demo networks only.",
            )
        ),
    ] = HeldBy.DEVICE,
    out: Annotated[
        Path | None, typer.Option(help=say("请求文件，默认 <slug>.yilian-request。", "Request file to write."))
    ] = None,
) -> None:
    """Make an institution and its request."""
    from yilian.node.home import Home, InstitutionSpec, PersonSpec, store_private
    from yilian.node.joining import initialise
    from yilian.node.network import default_people
    from yilian.node.settings import load

    place = Home(home)
    others = [person for person in default_people(kind) if person.role != Role.OFFICER]
    people = (PersonSpec(label="officer", role=Role.OFFICER, held_by=officer), *others)
    spec = InstitutionSpec(slug=slug, name=name, kind=kind, grade=grade, district=district, people=people)
    institution, request = initialise(place, load(place.settings_file), spec)
    file = out or Path(f"{slug}.yilian-request")
    store_private(file.absolute(), request)
    show(
        {
            "institution": institution.slug,
            "id": institution.id.hex(),
            "ca_fingerprint": institution.ca_fingerprint,
            "request": str(file),
        },
        named={"request": say("请求文件", "request")},
    )
    note(
        say("下一步：把请求文件交给任一成员：", "next: give the request file to any member, who runs ")
        + f"yilian network invite --request {file} --as OFFICER"
    )


@app.command(
    help=say(
        "凭邀请文件以独立主目录加入网络：取得并重新执行整条链，再提交加入操作；之后用 node start 作为跟随节点运行。",
        "Join a network with a home of its own: fetch and execute the chain, then take up the invitation; "
        "`node start` runs the home as a follower from then on.",
    )
    + "\n\nExample: yilian node join township.yilian-invitation --home h2"
)
def join(
    invitation: Annotated[Path, typer.Argument(help=say("邀请文件。", "The invitation file."))],
    *,
    home: HomeOption = _HOME,
    key_file: DeviceKey = None,
    key_passphrase_file: KeyPassphrase = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            help=say(
                "信任文件：从成员的快照开始，按此文件核验，不从创世逐块执行。",
                "Trust file: begin with a member's snapshot, verified against it, instead of executing every block.",
            )
        ),
    ] = None,
) -> None:
    """Join a network."""
    from yilian.ledger.trust import parse_trust
    from yilian.node import joining, membership
    from yilian.node.home import Home
    from yilian.node.settings import load

    place, content = Home(home), read_bytes(invitation)
    asked, founding = joining.read_invitation(content)
    mine = next((item for item in place.institutions() if item.id == asked.institution), None)
    possession = b""
    if mine is not None and joining.officer_of(mine).held_by != HeldBy.NODE:
        access = find_access(f"{mine.slug}-{joining.officer_of(mine).label}", home)
        signer = load_key(access, home, key=key_file, passphrase_file=key_passphrase_file)
        possession = signer.sign(joining.officer_message(founding.genesis.chain, mine))
    with progress(say("同步", "catching up")) as tell:
        believed = None if trust is None else parse_trust(read_bytes(trust))
        joined = membership.join(
            place, load(place.settings_file), content, possession=possession, trust=believed, told=tell
        )
    show(joined)
    if not is_json():
        note(say("下一步：", "next: ") + f"yilian node start --home {home}")


@app.command(
    help=say(
        "把一个机构从共用主目录迁到自己的主目录（可再拷到自己的机器）；原节点须已停止，之后作为跟随节点运行。",
        "Move an institution out of a home that hosts several, into one of its own, to be run as a follower; "
        "the node of the first must not run.",
    )
    + "\n\nExample: yilian node move township --to h2 --sequencer https://127.0.0.1:8471 --home h"
)
def move(
    slug: Annotated[str, typer.Argument(help=say("机构简称。", "Short name of the institution."))],
    *,
    to: Annotated[Path, typer.Option("--to", help=say("新的主目录。", "The new home."))],
    sequencer: Annotated[str, typer.Option(help=say("排序者的机构间地址。", "Where the sequencer's door is."))],
    home: HomeOption = _HOME,
) -> None:
    """Move an institution to a home of its own."""
    from yilian.node.home import Home
    from yilian.node.moving import move_out
    from yilian.node.settings import PeerSettings, Settings, load

    old = Home(home)
    secret = str(old.passphrase_file(load(old.settings_file)))
    moved = move_out(old, slug, Home(to), Settings(passphrase_file=secret, peer=PeerSettings(sequencer=sequencer)))
    show({"institution": moved.slug, "id": moved.id.hex(), "home": str(to)})
    if not is_json():
        note(say("口令文件仍在原处：", "the passphrase file stays where it is: ") + secret)
        note(say("下一步：", "next: ") + f"yilian node start --home {to}")


@app.command(
    help=say(
        "启动主目录中的节点，直到 Ctrl-C 或 SIGTERM。",
        "Run the node of a home until Ctrl-C or SIGTERM.",
    )
    + "\n\nExample: yilian node start --home h"
)
def start(
    *,
    home: HomeOption = _HOME,
    port: Annotated[
        int | None, typer.Option(help=say("接口端口，0 为任意空闲端口。", "Port of the API, 0 for any free one."))
    ] = None,
    base_port: Annotated[
        int | None,
        typer.Option(
            help=say("机构间端口的起始，0 为任意空闲端口。", "First port between institutions, 0 for any free ones.")
        ),
    ] = None,
    no_followers: Annotated[
        bool,
        typer.Option(
            "--no-followers",
            help=say(
                "恢复后首次启动：确认没有其他节点存有更新的区块。",
                "First start after a restore: no other node has newer blocks of this chain.",
            ),
        ),
    ] = False,
) -> None:
    """Run the node."""
    import msgspec

    from yilian.engine.tuning import bound_arenas, ease_collector
    from yilian.node.home import Home
    from yilian.node.run import RunningNode, run_node
    from yilian.node.settings import load

    place = Home(home)
    settings = load(place.settings_file)
    if port is not None:
        settings = msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, port=port))
    if base_port is not None:
        settings = msgspec.structs.replace(settings, peer=msgspec.structs.replace(settings.peer, base_port=base_port))

    if no_followers:
        from yilian.node.resume import confirm_no_followers

        confirm_no_followers(place)

    def ready(running: RunningNode) -> None:
        doors = {host.slug: host.peer_address for host in running.node.hosts.values()}
        show({"ready": running.url, "chain": running.node.chain.hex(), "doors": doors})
        if not is_json():
            note(say("按 Ctrl-C 停止。", "Ctrl-C stops it."))

    bound_arenas()
    ease_collector()
    run_node(place, settings, on_ready=ready)


app.command(
    "backup",
    help=say(
        "备份已停止节点的主目录，写成一个加密文件。运行中的节点用 yilian backup。",
        "Back up the home of a stopped node in one encrypted file. For a running node: yilian backup.",
    )
    + "\n\nExample: yilian node backup -o monday.yilian-backup --passphrase-file backup.txt --home h",
)(back_up_closed)
app.command(
    "restore",
    help=say(
        "由备份恢复一个新的主目录：全部核验通过后才可用，否则什么也不留。",
        "Make a new home from a backup: usable only once all of it was recomputed, else nothing is left.",
    )
    + "\n\nExample: yilian node restore monday.yilian-backup --home new --passphrase-file backup.txt --verify",
)(restore_home)


@app.command(
    help=say("运行中的节点处于何处、有哪些机构。", "Where the running node stands, and who is in it.")
    + "\n\nExample: yilian node status --home h"
)
def status(*, home: HomeOption = _HOME) -> None:
    """Say how the running node stands."""
    from yilian.node.control import NodeControl
    from yilian.node.home import Home

    answer = NodeControl(Home(home)).status()
    if is_json():
        show(answer)
        return
    institutions, elsewhere = answer.pop("institutions"), answer.pop("elsewhere")
    names = {item["id"]: item["name"] for item in [*institutions, *elsewhere]}
    answer["sequencer"] = names.get(answer["sequencer"], answer["sequencer"])
    spoken = {name: coded(answer[name]) for name in ("operators", "engine")}
    show(answer | spoken | {"time": moment(answer["time"])})
    for item in institutions:
        item["state"] = coded(item["state"])
    columns = [
        ("slug", say("简称", "slug")),
        ("state", say("状态", "state")),
        ("address", say("机构间地址", "address")),
    ]
    table(institutions, [*columns, ("name", say("名称", "name"))])


@app.command(
    help=say(
        "从创世起重新验证主目录中的一切：日志、状态、区块、密文、密钥文件、保管库；有问题则指名并以 5 退出。",
        "Verify all that a home holds, from the genesis on: log, state, blocks, blobs, keystores, vaults; "
        "what does not hold is named, and the exit code is 5.",
    )
    + "\n\nExample: yilian node check --home h"
)
def check(*, home: HomeOption = _HOME) -> None:
    """Verify what a home holds."""
    import msgspec

    from yilian.node.check import Counts
    from yilian.node.checking import check_all
    from yilian.node.home import Home
    from yilian.node.settings import load

    place = Home(home)
    counts = Counts()
    with progress(say("检查", "checking")) as tell:
        findings = list(check_all(place, load(place.settings_file), counts, lambda _what, done, _total: tell(done)))
    found = [str(finding) for finding in findings]
    show(
        {"ok": not found, **msgspec.structs.asdict(counts), "findings": found},
        "\n".join(found) if found else None,
    )
    if found:
        raise VerificationError(
            f"{len(found)} findings in {place.path}, expected none: see the list, restore what it names"
        )
