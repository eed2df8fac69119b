"""Training rows on disk: opens, groups, hashes and writes them without loading all of them into memory."""
