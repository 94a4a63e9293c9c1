"""The command line: what people type → doit's own words, and the help."""
