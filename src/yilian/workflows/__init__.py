"""The workflows: one folder each, all alike; `registry.py` lists which of them a chain runs."""
