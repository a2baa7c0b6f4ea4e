"""Checks and generators for those who develop Genome Edge."""
