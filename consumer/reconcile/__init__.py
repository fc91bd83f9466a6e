"""Contacts whose Sesamy user is gone or has another address, and taking off them what is ours (`docs/contract.md`)."""
