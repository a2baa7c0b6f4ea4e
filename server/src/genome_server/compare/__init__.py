"""Genomes beside each other: who is like whom, in which groups, and how close to the best."""
