"""Things a person runs in the field: `python -m examples.demo` is the whole story in one go."""
