"""Customer genomes: ingest, build, learn, release, sync."""
