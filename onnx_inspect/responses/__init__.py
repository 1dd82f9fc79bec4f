"""What units respond to: counted over photos, projected back to the pixels, drawn."""
