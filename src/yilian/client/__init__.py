"""Talk to a node over HTTP, keep a patient's wallet, check proofs; needs no node.

Loaded piece by piece, so that who only checks proofs needs no HTTP library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yilian.client.http import Client
    from yilian.client.wallet import Wallet

__all__ = ["Client", "Wallet"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class of this package
    if name == "Client":
        from yilian.client.http import Client

        return Client
    if name == "Wallet":
        from yilian.client.wallet import Wallet

        return Wallet
    raise AttributeError(f"module {__name__} has no attribute {name}")
