"""The tree itself: overlays, tarballs, what is cleaned, measured and found in it."""
