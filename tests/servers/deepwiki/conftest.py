"""Repositories to ask about: made with dulwich, so no git program is needed."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from dulwich import porcelain
from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain

from auralink.servers.deepwiki.wiki import Wiki

SHOP = {
    "README.md": """# Shop

A small shop that sells books and sends invoices.

## Installation

Install the shop with `pip install shop`, then run `shop serve`.

## Payments

Payments are authorised when the order is placed and captured when the parcel leaves the warehouse.
A refused card leaves the order open for ten minutes.
""",
    "docs/guide/shipping.md": """# Shipping

Parcels are collected by the courier twice a day.

## Tracking numbers

Every parcel gets a tracking number from the courier; `track_parcel` asks where it is.
""",
    "src/shop/__init__.py": '"""A small shop."""\n',
    "src/shop/orders.py": '''"""Orders: how they are placed, paid and cancelled."""

from shop.payments import PaymentGateway


class OrderBook:
    """All orders of the shop."""

    def place_order(self, customer: str, items: list[str]) -> int:
        """Place an order for a customer and authorise its payment.

        Returns the number of the order.
        """
        return PaymentGateway().authorise(customer, len(items))

    def _next_number(self) -> int:
        return 1


def cancel_order(number: int) -> None:
    """Cancel an order that has not left the warehouse."""
''',
    "src/shop/payments.py": '''"""Talking to the bank."""


class PaymentGateway:
    """The bank's interface."""

    def authorise(self, customer: str, amount: int) -> int:
        """Reserve an amount on the customer's card."""
        return amount

    def capturePayment(self, reservation: int) -> None:
        """Take the reserved amount."""
''',
    "src/shop/tracking.py": '''"""Where parcels are."""

from . import orders


def track_parcel(number: str) -> str:
    """Ask the courier where a parcel is."""
    return f"{orders} {number}"
''',
    "tests/test_orders.py": """from shop.orders import OrderBook


def test_an_order_gets_a_number() -> None:
    assert OrderBook().place_order("Ada", ["book"]) == 1
""",
    "web/cart.ts": """import { money } from "./money";

/** The customer's cart. */
export class Cart {
  /** Adds a book. */
  addBook(title: string): void {}
}
""",
    "web/money.ts": "export const money = (cents: number): string => `${cents}`;\n",
    "poetry.lock": "locked secrets of the courier\n",
    "logo.png": "\0\0\0",
}


def write(folder: Path, files: dict[str, str]) -> None:
    """Puts files into a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def commit(folder: Path, files: dict[str, str], message: str = "change") -> str:
    """Writes files and commits everything; the id of the commit."""
    write(folder, files)
    porcelain.add(str(folder), [str(folder / name) for name in files])
    made = porcelain.commit(str(folder), message=message, author=b"A <a@b>", committer=b"A <a@b>", sign=False)
    return made.decode()


def make_repository(folder: Path, files: dict[str, str]) -> str:
    """A git repository with one commit; the commit's id."""
    folder.mkdir(parents=True)
    porcelain.init(str(folder)).close()
    return commit(folder, files)


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """A folder of repositories."""
    (tmp_path / "repos").mkdir()
    return tmp_path / "repos"


@pytest.fixture
def shop(roots: Path) -> Path:
    """The repository `acme/shop`."""
    make_repository(roots / "acme/shop", SHOP)
    return roots / "acme/shop"


async def allow(_url: str) -> None:
    """A guard that lets every URL pass."""


@pytest.fixture
async def wiki(tmp_path: Path, roots: Path) -> AsyncIterator[Wiki]:
    """A wiki over the folder of repositories; nothing listens where it would clone from."""
    made = Wiki(tmp_path / "data", [roots], check_url=allow, clone_base="http://127.0.0.1:1")
    yield made
    await made.close()


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `repos/acme/shop` that no test changes, and `data` that holds its index once one test has asked."""
    folder = tmp_path_factory.mktemp("shelf")
    make_repository(folder / "repos/acme/shop", SHOP)
    return folder


@pytest.fixture
async def reader(shelf: Path) -> AsyncIterator[Wiki]:
    """A wiki over a repository that does not change."""
    made = Wiki(shelf / "data", [shelf / "repos"], check_url=allow, clone_base="http://127.0.0.1:1")
    yield made
    await made.close()


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves a repository as /acme/shop over HTTP, as a git host does; `serve(path)` is the address of the host."""
    servers: list[WSGIServer] = []
    repos: list[Repo] = []

    def start(path: Path) -> str:
        repo = Repo(str(path))
        repos.append(repo)
        server = make_server("127.0.0.1", 0, make_wsgi_chain(DictBackend({"/acme/shop": repo})), handler_class=_Quiet)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
    for repo in repos:
        repo.close()
