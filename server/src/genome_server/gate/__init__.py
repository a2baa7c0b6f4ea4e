"""What a model must show before it is published: docs/gate.md."""
