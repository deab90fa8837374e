"""Native code for CPUs: a SIMD register is a dense unit too, one weight times sixteen positions.

Plain numpy without IR: which rows share registers, in which order nonzeros run, the text of the code.
"""
