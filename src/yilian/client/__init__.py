"""Talk to a node over HTTP, keep a patient's wallet, check proofs; needs no node."""
