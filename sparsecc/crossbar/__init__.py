"""The mathematics of memristor crossbars, in plain numpy: bit slices, arrays, ADCs, places and costs."""
