"""From the store to a signed release that devices load."""
