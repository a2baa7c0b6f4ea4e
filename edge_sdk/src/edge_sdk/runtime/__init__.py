"""What clients and sessions share while they run: the threads behind, the state in front."""
