"""Found a consortium in one process, publish an entry, be refused, and replay the chain to the same `app_hash`."""

from __future__ import annotations

import sys

from yilian.crypto.suite import sha256
from yilian.ledger.machine import Machine
from yilian.ledger.members import InstitutionKind, Role
from yilian.testing.consortium import Consortium
from yilian.testing.stores import MemoryState
from yilian.workflows.catalog.model import Entry, Origin, Publish, Withdraw


def main() -> int:
    """Run the example."""
    kinds = {"centre": InstitutionKind.COMMUNITY_CENTRE, "hospital": InstitutionKind.HOSPITAL}
    consortium = Consortium.found(kinds)
    centre, hospital = consortium["centre"], consortium["hospital"]
    write = sys.stdout.write

    publish = Publish(
        tag=sha256(b"a subject tag"),
        root=sha256(b"root of a sealed record"),
        commitment=sha256(b"a salted commitment"),
        size_class=14,
        kind="C0002",
        level=4,
        month=2026 * 12 + 2,  # type: ignore[arg-type]  # March 2026, a plain integer outside the edge
        origin=Origin.SYSTEM,
        late=False,
    )
    published = consortium.act(centre, publish)
    write(f"entry {published.case_id.hex()} at height {published.height}, leaf {published.leaf}\n")

    # The hospital's data officer cannot withdraw what the centre keeps: 2 is NOT_PERMITTED of the kernel.
    refused = consortium.act(hospital, Withdraw(), published.case_id, persons=[Role.DATA_OFFICER])
    write(f"refused {refused.result}: {refused.message}\n")

    consortium.act(centre, Withdraw(), published.case_id, persons=[Role.DATA_OFFICER])
    entry = consortium.case(Entry, published.case_id)
    write(f"the entry is {entry.state if entry else 'gone'}\n")

    machine = consortium.machine
    again = Machine(MemoryState(), machine.registry, machine.genesis)
    for height, (time, transactions) in enumerate(consortium.transactions, start=1):
        name = sha256(height.to_bytes(8, "big"))
        again.commit(again.execute(height, time, name, transactions, lambda _: 0))
    write(f"replay gives the same app_hash: {again.head.app_hash == machine.head.app_hash}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
