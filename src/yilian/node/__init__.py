"""The node: one process that runs the ledger, its institutions, their doors and their work."""
