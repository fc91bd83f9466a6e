"""The page for people: one file, without a build step."""
