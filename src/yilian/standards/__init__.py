"""Bytes of the outside world, read into our records; one folder a standard."""
