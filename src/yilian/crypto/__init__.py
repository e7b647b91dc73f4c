"""Suites of algorithms, sealing of records and Merkle hashing; import the modules, this package exports nothing."""
