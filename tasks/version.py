"""Strata's version, which its package and `--version` have."""

VERSION = "0.2.0"
