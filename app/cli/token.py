"""``dimple token``: access tokens."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from flask.cli import AppGroup, with_appcontext

from app.cli.common import current_settings, report_errors

token_cli = AppGroup("token", help="Manage access tokens.")
LONGEST_DAYS = 36_500


@token_cli.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(["management", "prediction"]), required=True, help="What the token allows.")
@click.option("--days", type=click.IntRange(1, LONGEST_DAYS), help="Days until the token expires.  [default: never]")
@with_appcontext
@report_errors
def add(name: str, role: str, days: int | None) -> None:
    """Create a token.

    The token NAME is printed once; only its hash is stored. A management token allows predictions, too. Running
    servers accept it within a second.
    """
    from app.security.tokens import add_token

    click.echo(add_token(_path(), name, role, days))


@token_cli.command("list")
@with_appcontext
@report_errors
def list_tokens() -> None:
    """List the tokens.

    The columns are name, role, date of creation and date of expiry.
    """
    from app.security.tokens import read_tokens

    entries = sorted(read_tokens(_path()).values(), key=lambda entry: entry.name)
    if not entries:
        click.echo("There are no tokens.")
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        until = "never expires" if entry.expires is None else f"expires {_day(entry.expires)}"
        state = " (expired)" if entry.is_expired() else ""
        click.echo(f"{entry.name:{width}}  {entry.role:10}  created {_day(entry.created)}  {until}{state}")


@token_cli.command("revoke")
@click.argument("name")
@with_appcontext
@report_errors
def revoke(name: str) -> None:
    """Revoke a token.

    Running servers reject the token NAME within a second.
    """
    from app.security.tokens import revoke_token

    revoke_token(_path(), name)
    click.echo(f"revoked {name}")


def _path() -> Path:
    from app.security.tokens import tokens_path

    return tokens_path(current_settings())


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
