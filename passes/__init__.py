"""The passes of sparsecc, one file each. Import them as `sparsecc.passes`."""

if __name__ == "passes":
    raise ImportError("import sparsecc.passes, not passes")
