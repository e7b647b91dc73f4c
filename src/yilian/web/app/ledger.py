"""What stands on the ledger, for reading: cases, events, catalogue, members, keys, rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast

import msgspec
from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter

from yilian.crypto.suite import SuiteId, key_id_of
from yilian.errors import NotFoundError, SettingsError
from yilian.ledger.cases import Case, Found
from yilian.ledger.members import Constitution, Key, Member, Parameters, Roster
from yilian.storage.rows import CaseQuery, CaseRow, EntryQuery, EntryRow, EventRow, Page
from yilian.values import MAX_INT, CaseId, InstitutionId, case_id
from yilian.web.app.context import Context, Req, language_of
from yilian.web.app.permits import actions_of
from yilian.web.app.views import (
    CaseView,
    EntriesAsked,
    EntryView,
    EventView,
    IdsView,
    KeyView,
    LedgerView,
    Me,
    MemberView,
    PageView,
)
from yilian.web.kit.jsonform import to_json
from yilian.web.kit.text import Language, words

MAX_LIMIT = 200
MAX_KEYS = 1_000
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="Rows of a page")]
Cursor = Annotated[str | None, QueryParameter(description="`next` of the page before")]
Text = Annotated[str | None, QueryParameter(max_length=64)]
IdText = Annotated[str | None, QueryParameter(pattern="^[0-9a-f]{64}$", description="32 bytes, hex")]
OwnerId = Annotated[str, QueryParameter(pattern="^[0-9a-f]{64}$", description="Institution id, hex")]
PathId = Annotated[str, PathParameter(pattern="^[0-9a-f]{64}$", description="32 bytes, hex")]


def ledger_routes(context: Context) -> list[HTTPRouteHandler]:
    """Make the routes that read the ledger."""
    return [*_cases(context), *_history(context), *_catalogue(context), *_chain(context), *_members(context)]


def case_view(context: Context, kind: str, found: Found[Case], language: Language) -> CaseView:
    """Describe a case as it stands now, without what can be done."""
    header = found.header
    workflow = context.node.registry.case_types[kind][0].name
    return CaseView(
        case_id=header.id.hex(),
        workflow=workflow,
        kind=kind,
        state=header.state,
        title=words(f"yilian.workflows.{workflow}", language, "states", kind, header.state),
        version=header.version,
        flags=header.flags,
        opened_height=header.opened_height,
        opened_time=header.opened_time,
        changed_height=header.changed_height,
        changed_time=header.changed_time,
        fields=to_json(found.fields),
        patient=to_json(header.patient),
    )


def found_case(context: Context, target: CaseId) -> tuple[str, Found[Case]]:
    """Get a committed case; NotFoundError where there is none."""
    found = context.node.engine.find_case(target)
    if found is None:
        raise NotFoundError(f"there is no case {target.hex()} on this chain: check the id")
    return found


def _cases(context: Context) -> list[HTTPRouteHandler]:
    node = context.node

    @get("/v1/cases", tags=["ledger"], summary="List cases, the newest first", sync_to_thread=True)
    def list_cases(
        *,
        request: Req,
        workflow: Text = None,
        kind: Text = None,
        states: Annotated[list[str] | None, QueryParameter(name="state", max_items=16)] = None,
        institution: IdText = None,
        position: Text = None,
        flag: Text = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> PageView[CaseView]:
        """List cases by type, state, institution (at any position, or at `position`) and flag."""
        query = CaseQuery(
            workflow=workflow,
            kind=kind,
            states=tuple(states or ()),
            institution=None if institution is None else bytes.fromhex(institution),
            position=position,
            flag=flag,
            limit=limit,
            cursor=cursor,
        )
        page = node.index.find_cases(query)
        language = language_of(request.headers)
        return PageView(items=tuple(_row_view(row, language) for row in page.items), next=page.next)

    @get("/v1/cases/{case:str}", tags=["ledger"], summary="One case, and what can be done now", sync_to_thread=True)
    def one_case(request: Req, case: PathId) -> CaseView:
        """Give one case as the newest block left it, with the steps that its state allows; `mine`: the caller's."""
        kind, found = found_case(context, case_id(bytes.fromhex(case)))
        workflow, case_type = node.registry.case_types[kind]
        language = language_of(request.headers)
        actions = actions_of(
            workflow.name, case_type, found, request.user, time=node.engine.head().time, language=language
        )
        view = case_view(context, kind, found, language)
        reads = node.engine.reads()
        rows = [(one.word, reads.register(one, found.header.id)) for one in workflow.registers]
        registers = {word: to_json(row) for word, row in rows if row is not None}
        return msgspec.structs.replace(view, actions=tuple(actions), registers=registers)

    return cast("list[HTTPRouteHandler]", [list_cases, one_case])


def _history(context: Context) -> list[HTTPRouteHandler]:
    node = context.node

    @get("/v1/cases/{case:str}/events", tags=["ledger"], summary="What happened to a case", sync_to_thread=True)
    def case_events(case: PathId, limit: Limit = 100, cursor: Cursor = None) -> PageView[EventView]:
        """List the operations on a case, the oldest first, refused ones too."""
        return _events(node.index.events_of_case(bytes.fromhex(case), limit=limit, cursor=cursor))

    @get("/v1/operations", tags=["ledger"], summary="The operations of some blocks", sync_to_thread=True)
    def operations(
        first: Annotated[int, QueryParameter(ge=1, le=MAX_INT)],
        last: Annotated[int, QueryParameter(ge=1, le=MAX_INT)],
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> PageView[EventView]:
        """List the operations of the blocks `first` to `last`, the oldest first."""
        return _events(node.index.events_between(first, last, limit=limit, cursor=cursor))

    @get("/v1/ids/{prefix:str}", tags=["ledger"], summary="Ids that begin so", sync_to_thread=True)
    def ids(prefix: Annotated[str, PathParameter(description="6 to 64 hex digits")]) -> IdsView:
        """Find the ids of cases, entries, members and keys that begin with 6 to 64 hex digits; 20 at most."""
        if not 6 <= len(prefix) <= 64 or any(digit not in "0123456789abcdef" for digit in prefix):
            raise SettingsError(f"{prefix!r} begins no id, expected 6 to 64 lower-case hex digits: copy more of it")
        return IdsView(ids=tuple(one.hex() for one in node.ids_with_prefix(prefix)))

    return cast("list[HTTPRouteHandler]", [case_events, operations, ids])


def _catalogue(context: Context) -> list[HTTPRouteHandler]:
    node = context.node

    @get("/v1/entries", tags=["catalogue"], summary="Search the catalogue", sync_to_thread=True)
    def search_entries(
        *,
        request: Req,
        custodian: IdText = None,
        kind: Text = None,
        status: Text = None,
        level: Annotated[int | None, QueryParameter(ge=1, le=4)] = None,
        size_class: Annotated[int | None, QueryParameter(ge=0, le=255)] = None,
        restricted: Annotated[bool | None, QueryParameter()] = None,
        first_month: Annotated[int | None, QueryParameter(ge=0, le=200_000)] = None,
        last_month: Annotated[int | None, QueryParameter(ge=0, le=200_000)] = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> PageView[EntryView]:
        """Search what members have published; months count year × 12 + month − 1.

        Whether the caller's institution may search is decided first: only members that are not removed.
        """
        _check_member(context, request.user.institution)
        query = EntryQuery(
            custodian=None if custodian is None else bytes.fromhex(custodian),
            kind=kind,
            status=status,
            level=level,
            size_class=size_class,
            restricted=restricted,
            first_month=first_month,
            last_month=last_month,
            limit=limit,
            cursor=cursor,
        )
        page = node.index.find_entries(query)
        return PageView(items=tuple(_entry_view(row) for row in page.items), next=page.next)

    @post(
        "/v1/entries/find",
        tags=["catalogue"],
        summary="Which of these ids are entries",
        status_code=200,
        sync_to_thread=True,
    )
    def find_entries(request: Req, data: JSONBody[EntriesAsked]) -> list[CaseView]:
        """Give those of up to 1,000 ids that stand in the catalogue: how a wallet lists a patient's entries."""
        _check_member(context, request.user.institution)
        found = [node.engine.find_case(case_id(bytes.fromhex(one))) for one in data.ids]
        language = language_of(request.headers)
        return [case_view(context, one[0], one[1], language) for one in found if one is not None and one[0] == "entry"]

    return cast("list[HTTPRouteHandler]", [search_entries, find_entries])


def _chain(context: Context) -> list[HTTPRouteHandler]:
    node = context.node

    @get("/v1/me", tags=["network"], summary="Whom this key stands for", sync_to_thread=True)
    def me(request: Req) -> Me:
        """Say for which person of which institution this API key acts, and whether the node can sign for it."""
        caller = request.user
        return Me(
            institution=caller.institution.hex(),
            slug=caller.slug,
            label=caller.label,
            role=caller.role.value,
            key_id=caller.key_id.hex(),
            signs_here=node.signer(caller) is not None,
            acts_as_node=caller.acts_as_node,
            chain=node.engine.chain.hex(),
        )

    @get("/v1/ledger", tags=["network"], summary="Where the chain stands", sync_to_thread=True)
    def ledger() -> LedgerView:
        """Give height, time and hashes of the newest durable block."""
        head = node.engine.head()
        return LedgerView(
            chain=node.engine.chain.hex(),
            name=node.genesis.name,
            height=head.height,
            time=head.time,
            app_hash=head.app_hash.hex(),
            log_size=head.log_size,
            log_root=head.log_root.hex(),
            projected=node.index.height(),
        )

    @get("/v1/network/constitution", tags=["network"], summary="The rules", sync_to_thread=True)
    def constitution() -> dict[str, Any]:
        """Give the rule table: who may propose what, quorums and delays."""
        return cast("dict[str, Any]", to_json(node.engine.reads().register(Constitution)) or {})

    @get("/v1/network/parameters", tags=["network"], summary="The parameters", sync_to_thread=True)
    def parameters() -> dict[str, Any]:
        """Give every parameter of the chain by its name."""
        found = node.engine.reads().register(Parameters)
        return {one.name: list(one.words) if one.words else one.number for one in (found.items if found else ())}

    return cast("list[HTTPRouteHandler]", [me, ledger, constitution, parameters])


def _members(context: Context) -> list[HTTPRouteHandler]:
    node = context.node

    @get("/v1/network/members", tags=["network"], summary="The members", sync_to_thread=True)
    def members() -> list[MemberView]:
        """List all members ever, in the order of joining, the removed and departed too."""
        roster = node.engine.reads().register(Roster)
        directory = node.engine.directory()
        found = [(one, directory.member(one)) for one in (roster.members if roster is not None else ())]
        return [_member_view(one, node.slug_of(one), member) for one, member in found if member is not None]

    @get("/v1/network/keys", tags=["network"], summary="The keys of a member", sync_to_thread=True)
    def key_list(owner: OwnerId) -> list[KeyView]:
        """List the registered keys of one member, those of the genesis first."""
        founding = [
            key_id_of(SuiteId(key.suite), key.public_key)
            for founder in node.genesis.founders
            for key in founder.keys
            if key.owner.hex() == owner
        ]
        query = CaseQuery(kind="key", institution=bytes.fromhex(owner), position="owner", limit=MAX_KEYS)
        later = [row.case_id for row in node.index.find_cases(query).items]
        found = [node.engine.find_case(case_id(one)) for one in dict.fromkeys([*founding, *reversed(later)])]
        return [_key_view(one[1]) for one in found if one is not None]

    @get("/v1/network/proposals", tags=["network"], summary="The proposals", sync_to_thread=True)
    def proposals(request: Req, limit: Limit = 50, cursor: Cursor = None) -> PageView[CaseView]:
        """List what the members are or were asked to decide, the newest first."""
        page = node.index.find_cases(CaseQuery(kind="proposal", limit=limit, cursor=cursor))
        language = language_of(request.headers)
        return PageView(items=tuple(_row_view(row, language) for row in page.items), next=page.next)

    return cast("list[HTTPRouteHandler]", [members, key_list, proposals])


def _check_member(context: Context, institution: InstitutionId) -> None:
    found = context.node.engine.directory().member(institution)
    if found is None or found.state in {"removed", "left", "lapsed", "invited"}:
        raise NotFoundError(f"{institution.hex()} is no member now: join the consortium first")


def _row_view(row: CaseRow, language: Language) -> CaseView:
    return CaseView(
        case_id=row.case_id.hex(),
        workflow=row.workflow,
        kind=row.kind,
        state=row.state,
        title=words(f"yilian.workflows.{row.workflow}", language, "states", row.kind, row.state),
        version=row.version,
        flags=row.flags,
        opened_height=row.opened_height,
        opened_time=row.opened_time,
        changed_height=row.changed_height,
        changed_time=row.changed_time,
        fields=msgspec.json.decode(row.fields),
    )


def _events(page: Page[EventRow]) -> PageView[EventView]:
    return PageView(items=tuple(_event_view(row) for row in page.items), next=page.next)


def _event_view(row: EventRow) -> EventView:
    return EventView(
        height=row.height,
        index=row.index,
        leaf=row.log_index,
        time=row.time,
        workflow=row.workflow,
        command=row.command,
        case_id=row.case_id.hex(),
        actor=row.actor.hex(),
        op_id=row.op_id.hex(),
        result=row.result,
        state=row.state,
    )


def _entry_view(row: EntryRow) -> EntryView:
    names: Sequence[str] = row.__struct_fields__
    return EntryView(**{name: to_json(getattr(row, name)) for name in names})


def _member_view(one: InstitutionId, slug: str, member: Found[Member]) -> MemberView:
    fields = member.fields
    return MemberView(
        id=one.hex(),
        slug=slug,
        name=fields.name,
        kind=fields.kind.value,
        state=member.state,
        operator=fields.operator.hex(),
        grade=fields.grade,
        ca_fingerprint=fields.ca_fingerprint.hex(),
    )


def _key_view(found: Found[Case]) -> KeyView:
    key = cast("Key", found.fields)
    return KeyView(
        key_id=found.header.id.hex(),
        owner=key.owner.hex(),
        role=key.role.value,
        state=found.state,
        held_by=key.held_by.value,
        public_key=key.public_key.hex(),
        exchange_key=None if key.exchange_key is None else key.exchange_key.hex(),
        valid_from=key.valid_from,
        valid_until=key.valid_until,
    )
