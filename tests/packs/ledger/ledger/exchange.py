"""Asks the exchange what one euro is worth."""

import json
import urllib.request
from urllib.parse import quote


def rate(base_url: str, currency: str) -> float:
    address = f"{base_url}/rates/{quote(currency)}"
    with urllib.request.urlopen(address, timeout=5) as answer:
        return float(json.load(answer)["rate"])
