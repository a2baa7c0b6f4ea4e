"""The gRPC services: enrolment, report, sync, identify, decisions; and what they stand on.

Nothing here blocks the event loop: SQLite, signatures and models are reached
through a pool of threads.
"""
