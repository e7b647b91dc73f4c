"""What a node keeps on disk: the ledger's stores, sealed blobs, the vault, the read model and keys."""
