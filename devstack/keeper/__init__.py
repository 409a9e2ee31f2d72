"""The process that starts all others, its warden, and the protocol between it and the controller."""
