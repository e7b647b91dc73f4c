"""Check transactions before their block, in a process of its own: on a second core, while the first one executes.

`check` judges what needs no state: signatures, and of large envelopes the form. It is run in this process and in the
child alike. The child is started by `Checker`, speaks over its standard streams and ends when they close.
A checked signature was checked under the public key whose hash is the key id that the signature names, so the result
stays right whatever the state says later; whether that key may sign is judged in the block.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import select
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO

import cbor2
import msgspec

from yilian.crypto import cose
from yilian.crypto.suite import SuiteId, verify
from yilian.engine.tuning import ease_collector
from yilian.errors import VerificationError
from yilian.ledger import envelope
from yilian.ledger.envelope import CommandTypes
from yilian.ledger.members import Role
from yilian.ledger.results import Checked
from yilian.values import Digest, InstitutionId

FORM_FROM = 4
"""Operations from which an envelope's form is checked here too: with fewer, the other core has time for it."""
PIPE_BYTES = 1 << 20
Keys = Mapping[bytes, bytes]
"""Key id → raw public key."""
_LENGTH = struct.Struct(">I")


class CheckRequest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Transactions to check, and keys that were missing before."""

    keys: dict[bytes, bytes]
    transactions: list[bytes]


class CheckReply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One `Checked` a transaction, what ALL of them say in packed form (else empty), and ids of missing keys."""

    checked: bytes
    packed: list[bytes]
    missing: list[bytes]


class _PackedOperation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    digest: bytes
    core_bytes: bytes
    core: envelope.Core
    persons: tuple[envelope.PersonSignature, ...]
    command: msgspec.Raw


class _PackedEnvelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    payload: envelope.Payload
    sign1: cose.Sign1
    operations: list[_PackedOperation]


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What was found, and where it is ALL, the decoded envelope in packed form."""

    checked: Checked
    packed: bytes = b""


_REQUEST, _REPLY = msgspec.msgpack.Decoder(CheckRequest), msgspec.msgpack.Decoder(CheckReply)
_PACKED = msgspec.msgpack.Decoder(_PackedEnvelope)
_ENCODER = msgspec.msgpack.Encoder()
NOTHING = Verdict(Checked.NOTHING)
_SIGNATURES = Verdict(Checked.SIGNATURES)


def check(transaction: bytes, keys: Keys, commands: CommandTypes, missing: list[bytes]) -> Verdict:
    """Check what holds without state; NOTHING where anything fails or a key is missing: the block then judges.

    Ids of missing keys are added to `missing`.
    """
    try:
        return _check(transaction, keys, commands, missing)
    except (VerificationError, cbor2.CBORError, msgspec.ValidationError, ValueError, TypeError, LookupError):
        return NOTHING
    except (OverflowError, RecursionError, AttributeError):
        return NOTHING


class Unpacker:
    """Reads packed envelopes; several times quicker than reading the transaction again."""

    def __init__(self, commands: CommandTypes) -> None:
        self._commands = {names: msgspec.msgpack.Decoder(kind) for names, kind in commands.items()}

    def unpack(self, packed: bytes) -> envelope.Envelope:
        """Read what `check` packed."""
        read = _PACKED.decode(packed)
        commands = self._commands
        operations = tuple(
            [
                envelope.Operation(
                    each.digest,  # type: ignore[arg-type]  # 32 bytes, as packed
                    each.core_bytes,
                    each.core,
                    each.persons,
                    commands[each.core.workflow, each.core.command].decode(each.command),
                )
                for each in read.operations
            ]
        )
        return envelope.Envelope(read.payload, read.sign1, operations)


def _pack(parsed: envelope.Envelope) -> bytes:
    encode = _ENCODER.encode
    operations = [
        _PackedOperation(each.digest, each.core_bytes, each.core, each.persons, msgspec.Raw(encode(each.command)))
        for each in parsed.operations
    ]
    return encode(_PackedEnvelope(parsed.payload, parsed.sign1, operations))


def _check(transaction: bytes, keys: Keys, commands: CommandTypes, missing: list[bytes]) -> Verdict:
    (protected, unprotected, payload, signature), operations = cbor2.loads(transaction)
    _, chain, actor, key_id, _, _, _ = cbor2.loads(payload)
    key = keys.get(key_id)
    if key is None:
        missing.append(key_id)
        return NOTHING
    message = cose.to_be_signed(protected, payload, envelope.TX_TAG)
    header_holds = protected == cose.PROTECTED[SuiteId.INTL] and not unprotected
    if not header_holds or not verify(SuiteId.INTL, key, message, signature):
        return NOTHING
    for operation in operations:
        core, persons = cbor2.loads(operation)
        if persons and not _persons_hold(core, persons, chain=chain, actor=actor, keys=keys, missing=missing):
            return NOTHING
    if len(operations) < FORM_FROM:
        return _SIGNATURES
    return Verdict(Checked.ALL, _pack(envelope.parse(transaction, commands)))


def _persons_hold(
    core: bytes, persons: list[object], *, chain: Digest, actor: InstitutionId, keys: Keys, missing: list[bytes]
) -> bool:
    for raw in persons:
        person = msgspec.convert(raw, envelope.PersonSignature, builtin_types=(bytes,))
        if person.role is Role.PATIENT:
            return False  # its key stands in the case
        key = keys.get(person.key_id)
        if key is None:
            missing.append(person.key_id)
            return False
        message = envelope.person_message(core, chain, actor, person)
        if not verify(SuiteId.INTL, key, message, person.signature):
            return False
    return True


class Checker:
    """The child process; `send` and `receive` belong to one thread, replies come in the order of requests.

    Raises:
        OSError, EOFError: the child has died; make another one.
    """

    def __init__(self, commands: CommandTypes) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._child = subprocess.Popen(  # noqa: S603 - this interpreter, this module
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            process_group=0,  # Ctrl-C is for the node, which then closes the streams
        )
        if self._child.stdin is None or self._child.stdout is None:
            raise AssertionError("both streams are pipes")
        self._stdin, self._stdout = self._child.stdin, self._child.stdout
        # room for whole requests, so that the sender need not wait for the child in the middle of one
        fcntl.fcntl(self._stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        types = [(*names, kind.__module__, kind.__qualname__) for names, kind in commands.items()]
        _write(self._stdin, _ENCODER.encode(types))

    @property
    def process_id(self) -> int:
        """Process id of the child."""
        return self._child.pid

    def send(self, keys: Mapping[bytes, bytes], transactions: Sequence[bytes]) -> None:
        """Send a request; may wait until the child has room for it."""
        _write(self._stdin, _ENCODER.encode(CheckRequest(dict(keys), list(transactions))))

    def receive(self) -> CheckReply:
        """Wait for the reply to the oldest request."""
        return _REPLY.decode(_read(self._stdout))

    def has_replied(self) -> bool:
        """Say whether a reply begins to come, where none was read yet."""
        return bool(select.select([self._stdout], [], [], 0)[0])

    def close(self) -> None:
        """End the child."""
        for stream in (self._stdin, self._stdout):
            try:
                stream.close()
            except OSError:
                continue
        self._child.kill()
        self._child.wait()


def serve() -> None:
    """Run the child: read the commands' types, then answer requests until the stream ends."""
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    try:
        ease_collector()
        commands = {
            (workflow, command): getattr(importlib.import_module(module), name)
            for workflow, command, module, name in msgspec.msgpack.decode(_read(requests))
        }
        keys: dict[bytes, bytes] = {}
        while True:
            request = _REQUEST.decode(_read(requests))
            keys.update(request.keys)
            missing: list[bytes] = []
            verdicts = [check(transaction, keys, commands, missing) for transaction in request.transactions]
            checked, packed = bytes(each.checked for each in verdicts), [each.packed for each in verdicts]
            _write(replies, _ENCODER.encode(CheckReply(checked, packed, sorted(set(missing)))))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _write(stream: IO[bytes], content: bytes) -> None:
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError("the stream has ended")
    (size,) = _LENGTH.unpack(head)
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("the stream has ended within a message")
    return content
