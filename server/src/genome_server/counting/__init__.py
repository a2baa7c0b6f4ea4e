"""From what happened to what counts for the caps of all devices, read from the log."""
