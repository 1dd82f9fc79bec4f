"""Commands that are not methods, and what all commands share."""
