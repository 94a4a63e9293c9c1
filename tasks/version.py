"""Strata's version: its package's, what `--version` says, and in each image's metadata."""

VERSION = "0.1.0"
