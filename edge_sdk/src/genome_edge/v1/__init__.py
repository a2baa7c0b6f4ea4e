"""Version 1 of the contract. See docs/wire.md."""
