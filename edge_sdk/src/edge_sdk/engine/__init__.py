"""From a moment to a decision: pure, replayable, without input or output."""
