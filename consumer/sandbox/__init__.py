"""Fakes of both APIs over real sockets, built from the references: nothing here was checked against a live service."""
