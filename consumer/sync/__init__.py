"""The use case: bring one user's contact up to date."""
