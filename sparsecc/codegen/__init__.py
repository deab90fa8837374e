"""From machine programs to C: the loop builder, the C printer, and the folder that stands alone."""
