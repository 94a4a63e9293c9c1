"""Strata: images of Debian and Ubuntu from content-keyed stages, on doit."""
