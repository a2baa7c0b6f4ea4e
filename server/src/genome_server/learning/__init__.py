"""From the log to a model: examples, training, evaluation, export."""
