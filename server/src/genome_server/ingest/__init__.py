"""From files to the store and the log: formats, readers, checks, rejects."""
