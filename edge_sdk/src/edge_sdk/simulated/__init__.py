"""The world around a device, for tests: a server, a clock, a network and a disk that can be bad."""
