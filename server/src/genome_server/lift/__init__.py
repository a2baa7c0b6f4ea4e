"""What showing offers brings: who was shown, who was held out, and how surely they differ."""
