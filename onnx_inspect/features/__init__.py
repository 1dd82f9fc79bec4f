"""Photos as vectors of features: kept, searched, laid out in a plane, compared."""
