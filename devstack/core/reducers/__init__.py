"""What each event does to State, by subject: one function for each event."""
