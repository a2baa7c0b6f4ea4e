"""A page that asks the device on its own machine, and what runs both."""
