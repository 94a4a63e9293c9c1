"""What goes with images for who asks what is in them, and whence; known faults of that."""
