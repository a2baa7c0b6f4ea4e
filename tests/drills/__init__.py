"""Drills: faults, again and again, under what must always hold."""
