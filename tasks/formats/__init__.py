"""Filesystems and containers: their bytes, sizes and options, one file for each."""
