"""What was integrated out, drawn given the data."""
