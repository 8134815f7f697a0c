"""The operator's accounts at providers: a key, an address, or both, from the environment (`OPENAI_API_KEY`, `OPENAI_BASE_URL`, …).

They are used for every user who has given no key of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from auralink.core.errors import StartupError
from auralink.core.secret import Secret
from auralink.llm.providers.vendors import VENDORS


@dataclass(frozen=True, slots=True)
class Account:
    """How to reach a provider on the operator's behalf."""

    base_url: str
    key: Secret | None


Accounts = Mapping[str, Account]
"""By provider."""

_VARIABLES = [name for vendor in VENDORS.values() for name in (vendor.key_variable, vendor.base_url_variable)]


class _Environment(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore")


def load_accounts() -> Accounts:
    """The accounts that the environment and `.env` give.

    Raises:
        StartupError: an address is not an http or https URL.
    """
    fields: dict[str, Any] = {name.lower(): (str | None, None) for name in _VARIABLES}
    given = create_model("VendorEnvironment", __base__=_Environment, **fields)().model_dump()
    accounts = {}
    for vendor in VENDORS.values():
        key, base_url = given[vendor.key_variable.lower()], given[vendor.base_url_variable.lower()]
        if base_url and not base_url.startswith(("http://", "https://")):
            raise StartupError(f"environment: {vendor.base_url_variable} must be an http or https URL")
        if key or (base_url and vendor.self_hosted):
            accounts[vendor.vendor_id] = Account((base_url or vendor.base_url).rstrip("/"), Secret(key) if key else None)
    return accounts
