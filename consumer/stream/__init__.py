"""From records of the topic to syncs and back to committed offsets."""
