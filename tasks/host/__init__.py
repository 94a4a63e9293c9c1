"""All that touches the machine: commands, sandboxes, files, locks, scratch, room."""
