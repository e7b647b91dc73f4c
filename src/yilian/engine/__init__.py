"""Engines: what orders transactions into blocks and runs the state machine on them; all behind `port.Engine`."""
