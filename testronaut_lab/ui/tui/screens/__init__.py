"""What is laid over the dashboard: help, and an error with what to do about it."""
