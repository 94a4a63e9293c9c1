"""Repositories → snapshots → lock, and the .debs that a lock names."""
