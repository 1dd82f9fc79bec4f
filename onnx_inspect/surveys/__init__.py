"""A model and any number of photos, which go through it while others are read."""
