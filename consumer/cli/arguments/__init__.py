"""The arguments of each command, apart from its work: a mistake in them is told before anything slow is imported."""
