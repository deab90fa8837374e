"""Mathematics of covers: plain numpy on meta-op tables, knows no IR."""
