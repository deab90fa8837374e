"""What is known and what is needed in a network, and which indices it can do without. Knows no IR."""
