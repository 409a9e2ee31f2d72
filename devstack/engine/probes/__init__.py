"""Asking replicas how they are: sockets on the loop, schedules, thresholds, ownership of listeners."""
