"""Every shape on a wire, as msgspec structs, and nothing else.

The structs name only what this program reads or writes. Unknown keys are ignored and enum values stay strings,
so that a new field or status of an API never stops a sync (`docs/reference/sesamy.md`, `docs/reference/mailmojo.md`).
"""
