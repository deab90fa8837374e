"""The dialects of sparsecc, one file each. Import them as `sparsecc.dialects`."""

if __name__ == "dialects":
    raise ImportError("import sparsecc.dialects, not dialects")
