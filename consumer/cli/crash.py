"""What is said of an exception that no code expected: a mistake of this program."""

import sys
import traceback

from consumer.cli import output
from consumer.masking import mask_addresses


def tell(error: BaseException) -> None:
    """Log the exception with its traceback, or print that where no log is configured; then complain in one line."""
    structlog = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        structlog.get_logger("cli").critical("command.crashed", exc_info=error)
    else:
        for text in "".join(traceback.format_exception(error)).splitlines():
            output.note(mask_addresses(text))
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    what = f"{type(error).__name__}: {mask_addresses(str(error))}".removesuffix(": ")
    output.complain(f"internal error: {what}; this is a mistake of the program, please report it")
