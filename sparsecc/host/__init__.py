"""Operators of the host: what emitted network programs call for everything the accelerator does not do."""
