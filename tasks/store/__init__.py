"""Owns cache/: entries, their records and digests."""
