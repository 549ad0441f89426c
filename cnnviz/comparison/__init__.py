"""What two networks, or two layers of one, have in common and where they differ."""
