"""The addresses of a file, one a line, such as an export of Mailmojo's contacts."""

from pathlib import Path

from consumer.mapping.person import normalised
from consumer.settings import SettingsError


def read_addresses(path: Path) -> list[str]:
    """Return the addresses in lower case, each once, in order. A first line that is no address is a heading.

    Raises:
        SettingsError: the file cannot be read, or another line is no address.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise SettingsError(f"--contacts {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"--contacts {path} is not UTF-8 text; give one address a line") from error
    addresses: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        address = normalised(line.strip().strip('"'))
        if address.count("@") == 1 and not any(character in address for character in " \t,;"):
            addresses[address] = None
        elif address and number > 1:
            raise SettingsError(f"--contacts {path}: line {number} is not one address; give one address a line")
    if not addresses:
        raise SettingsError(f"--contacts {path} holds no address; give one address a line")
    return list(addresses)
