"""Earlier versions, kept as they were released, and what they left on disks."""
