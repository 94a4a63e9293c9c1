"""A spec's text → values that are checked, told in words that a person understands."""
