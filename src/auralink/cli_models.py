"""`auralink models`: the catalogue of models, for the operator. It works on the database itself, with or without a service."""

import asyncio
import functools
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from auralink.cli_output import show
from auralink.core.settings import load_settings
from auralink.core.warned import did_you_mean
from auralink.llm.catalogue.models import Model
from auralink.llm.catalogue.records import record_of

models = typer.Typer(no_args_is_help=True, help="The catalogue of language models.")
progress_out = Console(stderr=True)


@models.command("list")
def list_models(
    provider: Annotated[str | None, typer.Argument(help="only this provider's")] = None,
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List the models, with their prices in USD per million tokens."""
    from auralink.standalone import read_catalogue  # the service's imports, as in cli.py

    catalogue = asyncio.run(read_catalogue(load_settings(), _progress))
    providers = sorted({model.provider for model in catalogue})
    if provider is not None and provider not in providers:
        raise typer.BadParameter(f"there is no provider {provider!r}{did_you_mean(provider, providers)}; {', '.join(providers)}")
    found = [model for model in catalogue if provider in (None, model.provider)]
    if json:
        print(orjson.dumps([record_of(model) for model in found], option=orjson.OPT_INDENT_2).decode())
        return
    table = Table("model", "tier", "input", "output", "window", "can", box=None, pad_edge=False)
    for model in found:
        table.add_row(*_cells(model))
    show(table)


@models.command("sync")
def sync(
    offline: Annotated[bool, typer.Option("--offline", help="take the prices of the installed package")] = False,
    file: Annotated[Path | None, typer.Option(help="bring a models.json up to date, not the database (for maintainers)")] = None,
) -> None:
    """Bring prices and context windows up to date, from genai-prices. A running service has them within the hour."""
    from auralink.llm.catalogue import sync as run  # it loads the prices of some forty vendors, which nothing else needs
    from auralink.standalone import synchronise_models

    prices, reason = run.price_list(offline=offline)
    if reason:
        _progress(f"today's prices cannot be had ({reason}); taking those of the installed package")
    write = functools.partial(run.update_database, prices=prices)
    changes = run.update_file(file, prices) if file else asyncio.run(synchronise_models(load_settings(), write, _progress))
    for change in changes:
        print(change)
    print(f"{len(changes)} models changed; prices of {prices.as_of} ({prices.source})")


def _progress(message: str) -> None:
    progress_out.print(message, style="dim", markup=False, highlight=False)


def _cells(model: Model) -> tuple[str, ...]:
    can = "deprecated" if model.deprecated else ", ".join(sorted(model.capabilities - {"chat", "streaming"}))
    window = "" if model.context_window is None else f"{model.context_window:,}"
    return model.model_id, model.tier, _usd(model.input_usd), _usd(model.output_usd), window, can


def _usd(price: Decimal | None) -> str:
    return "" if price is None else f"{price:f}"
