"""sparsecc: makes the zeros of pruned networks pay on chips with dense units."""
