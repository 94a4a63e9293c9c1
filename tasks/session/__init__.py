"""doit's side of one run: its variables, screen, reporter and state."""
