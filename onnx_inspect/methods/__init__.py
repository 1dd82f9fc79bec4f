"""The methods. Each is a function in a module here, marked with `@method`; its command is made from it."""
