"""What changes when something is taken away, from the network or from the photo."""
