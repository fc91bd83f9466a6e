"""Pure rules: from what Sesamy says of a user to what is written to Mailmojo. No I/O here.

An assumption of the references lives in one place of this package, with a comment that names it.
"""
