"""Studies of what a network has learnt, one file per family, and what they share."""
