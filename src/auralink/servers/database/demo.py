"""A small shop to try the database server on: 60 customers, 24 products, 400 orders, always the same.

It is a database of its own in the embedded cluster. Its role can read the shop and nothing else: it may not connect to AuraLink's
database, and what keeps two users of the demo apart from each other is that neither can write.
"""

import random
import secrets
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from auralink.core.secret import Secret

DATABASE = "shop"
ROLE = "shop_reader"
LOCK_KEY = 0x41555253  # "AURS"
MAX_SESSIONS = 20

SCHEMA = """
CREATE TABLE customers (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    email      text NOT NULL UNIQUE,
    city       text NOT NULL,
    country    text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE products (
    id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     text NOT NULL UNIQUE,
    category text NOT NULL,
    price    numeric(10, 2) NOT NULL CHECK (price > 0),
    stock    integer NOT NULL CHECK (stock >= 0),
    tags     text[] NOT NULL DEFAULT '{}'
);
CREATE TYPE order_status AS ENUM ('placed', 'paid', 'shipped', 'delivered', 'returned');
CREATE TABLE orders (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers (id),
    status      order_status NOT NULL,
    placed_at   timestamptz NOT NULL
);
CREATE TABLE order_items (
    order_id   integer NOT NULL REFERENCES orders (id),
    product_id integer NOT NULL REFERENCES products (id),
    quantity   integer NOT NULL CHECK (quantity > 0),
    unit_price numeric(10, 2) NOT NULL,
    PRIMARY KEY (order_id, product_id)
);
CREATE INDEX ON orders (customer_id);
CREATE VIEW order_totals AS
    SELECT o.id AS order_id, o.customer_id, o.status, o.placed_at, sum(i.quantity * i.unit_price) AS total
    FROM orders o JOIN order_items i ON i.order_id = o.id GROUP BY o.id;
COMMENT ON TABLE customers IS 'People who have bought in the shop';
COMMENT ON TABLE products IS 'What the shop sells';
COMMENT ON TABLE orders IS 'Orders, from placed to delivered or returned';
COMMENT ON TABLE order_items IS 'The lines of an order, with the price at the time of the order';
COMMENT ON COLUMN products.stock IS 'Pieces in the warehouse';
COMMENT ON COLUMN order_items.unit_price IS 'In euros, without tax';
COMMENT ON VIEW order_totals IS 'One row per order with its total in euros';
"""

FIRST_NAMES = ("Ada", "Bea", "Carl", "Dora", "Emil", "Frida", "Gus", "Hana", "Ivan", "Jana", "Karim", "Lea")
LAST_NAMES = ("Adler", "Baum", "Costa", "Dahl", "Eriksen", "Fischer", "García", "Horváth", "Ito", "Jensen")
CITIES = (("Berlin", "DE"), ("Wien", "AT"), ("Zürich", "CH"), ("Lisboa", "PT"), ("København", "DK"), ("Kraków", "PL"))
PRODUCTS = {
    "tea": ("Assam", "Darjeeling", "Earl Grey", "Sencha", "Rooibos", "Peppermint"),
    "coffee": ("Espresso beans", "Filter roast", "Decaf", "Cold brew", "Mocha", "House blend"),
    "ware": ("Teapot", "Cup", "Kettle", "Moka pot", "Grinder", "Tin"),
    "sweets": ("Shortbread", "Marzipan", "Nougat", "Ginger", "Halva", "Fudge"),
}
TAGS = ("new", "organic", "gift")
OPEN_DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND has_database_privilege('public', oid, 'CONNECT')"
STATUSES = ("delivered", "delivered", "delivered", "shipped", "paid", "placed", "returned")
OPENING = datetime(2025, 1, 2, 9, 0, tzinfo=UTC)


def create_demo(superuser: Secret, *, password: Secret | None = None) -> Secret:
    """Makes the shop, its role and its data where they are missing; returns the address of the role, on the same server.

    `superuser` is the address of any database of the cluster. The role's password is set each time, to `password` or a new one.
    May be repeated, and at the same time.

    Raises:
        psycopg.Error: the cluster cannot be reached, or the login is not a superuser.
    """
    password = password or Secret(secrets.token_urlsafe(24))
    with psycopg.connect(superuser.reveal(), autocommit=True, application_name="auralink demo") as session:
        session.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        _make_role(session, password)
        if not session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            session.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(DATABASE)))
        _restrict(session)
        with psycopg.connect(make_conninfo(superuser.reveal(), dbname=DATABASE)) as shop:
            if shop.execute("SELECT to_regclass('public.order_totals')").fetchone() == (None,):
                _fill(shop)
    return Secret(make_conninfo(superuser.reveal(), dbname=DATABASE, user=ROLE, password=password.reveal()))


def _make_role(session: psycopg.Connection, password: Secret) -> None:
    verifier = session.pgconn.encrypt_password(password.reveal().encode(), ROLE.encode(), b"scram-sha-256").decode()
    if not session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
        session.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(ROLE)))
    session.execute(
        sql.SQL(
            "ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT {} PASSWORD {}"
        ).format(sql.Identifier(ROLE), sql.Literal(MAX_SESSIONS), sql.Literal(verifier))
    )


def _restrict(session: psycopg.Connection) -> None:
    """Lets the role into the shop, and nobody into a database of the cluster just because it is there.

    Who is meant to connect to AuraLink's databases has been granted it by name (`embedded_postgres.create_database`).
    """
    names = [row[0] for row in session.execute(OPEN_DATABASES).fetchall()]
    for name in names:
        session.execute(sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
    session.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(DATABASE), sql.Identifier(ROLE)))


def _fill(shop: psycopg.Connection) -> None:
    """The schema and the data, in one transaction."""
    shop.execute(SCHEMA)
    dice = random.Random(20250102)  # noqa: S311 - data that is the same everywhere, no secret
    with shop.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO customers (name, email, city, country, created_at) VALUES (%s, %s, %s, %s, %s)", _customers(dice)
        )
        cursor.executemany(
            "INSERT INTO products (name, category, price, stock, tags) VALUES (%s, %s, %s, %s, %s)", _products(dice)
        )
        for number in range(1, 401):
            _order(cursor, dice, number)
    reader = sql.Identifier(ROLE)
    shop.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    shop.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(reader))
    shop.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(reader))
    shop.execute("ANALYZE")


def _customers(dice: random.Random) -> list[tuple[object, ...]]:
    names = [(first, last) for last in LAST_NAMES for first in FIRST_NAMES]
    dice.shuffle(names)
    return [
        (f"{first} {last}", f"customer{number}@example.com", *dice.choice(CITIES), OPENING + timedelta(days=number * 3))
        for number, (first, last) in enumerate(names[:60], start=1)
    ]


def _products(dice: random.Random) -> list[tuple[object, ...]]:
    return [
        (name, category, Decimal(dice.randrange(250, 6000)) / 100, dice.randrange(300), sorted(dice.sample(TAGS, k=place % 3)))
        for category, names in PRODUCTS.items()
        for place, name in enumerate(names)
    ]


def _order(cursor: psycopg.Cursor, dice: random.Random, number: int) -> None:
    placed = OPENING + timedelta(hours=number * 20, minutes=dice.randrange(600))
    cursor.execute(
        "INSERT INTO orders (customer_id, status, placed_at) VALUES (%s, %s, %s)",
        [dice.randrange(1, 61), dice.choice(STATUSES), placed],
    )
    for product in dice.sample(range(1, 25), k=dice.randrange(1, 5)):
        cursor.execute(
            "INSERT INTO order_items (order_id, product_id, quantity, unit_price) "
            "SELECT %s, id, %s, price FROM products WHERE id = %s",
            [number, dice.randrange(1, 4), product],
        )
