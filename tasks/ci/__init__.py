"""Pipelines of CI systems as text: what `strata ci` prints, and what their jobs ask for. Pure."""
