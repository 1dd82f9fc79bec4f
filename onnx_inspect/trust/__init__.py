"""Can an explanation be trusted: how faithful it is to the model, how stable, and whether it points at the thing."""
