"""DNA: markers, how they grow and fade, and what a device knows of a customer."""
