"""From what happened to genomes: the build of everything, and the increments that follow it."""
