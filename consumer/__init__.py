"""Keeps Mailmojo contacts in step with Sesamy subscriptions, from a Kafka topic of events."""
