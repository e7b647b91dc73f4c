"""The ledger: pure functions of (block, state). Read `envelope → workflow → state → log/tree → block → machine`."""
