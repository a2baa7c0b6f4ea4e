"""What a customer does next: action, category, time, channel and moment, each with its chance."""
