"""Pictures made by gradient ascent: what they are made of, what they shall look like to the model, and the way up."""
