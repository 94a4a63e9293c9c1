"""Strata: images of Debian and Ubuntu from content-keyed stages, on doit."""

VERSION = "0.2.0"
