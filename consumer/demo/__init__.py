"""What the demo is made of: its cast, its stream of events, the run, the display, the checks and the report."""
