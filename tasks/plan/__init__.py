"""Decides and makes nothing: stages, their keys and inputs, the lock."""
