"""One decomposition per operator, one file per family; `families` imports them all."""
