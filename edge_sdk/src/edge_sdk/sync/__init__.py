"""The line to the server: trust, credentials, the protocol as a machine, its threads."""
