"""The weights of a layer as kernels: read as real numbers, traced to the pixels, checked, drawn."""
