"""The endpoint for Sesamy's webhooks: checks a request, stores its event in the topic, and only then says yes."""
