"""What makes each stage: base, layer, settings, image, and what is published of them."""
