"""What a device keeps: files that never change, and a small database that points at them."""
