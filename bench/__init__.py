"""Performance as ratios: `python -m bench`, or `make bench`."""
