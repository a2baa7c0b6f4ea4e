"""A release that is out for a share of the devices: watched, promoted or rolled back by itself."""
