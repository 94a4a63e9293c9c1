"""Shared caches: stages and .debs that other machines made, and whom to believe them from."""
