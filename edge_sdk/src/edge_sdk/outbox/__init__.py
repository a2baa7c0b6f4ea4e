"""What happened, on its way from the app to the server: durable, ordered, bounded."""
