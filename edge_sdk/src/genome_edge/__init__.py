"""The public contract of Genome Edge as Python stubs, generated from proto/."""
