"""API keys from the command line of the machine that holds the records: `python -m services.gateway.keys`.

The only way to the first key and to other tenants' keys; over HTTP an admin reaches those of its own tenant.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import get_args

from services.common.serving.settings import InvalidSettings
from services.gateway import apikeys, guard
from services.gateway.callers import Scope
from services.gateway.issue import issue, valid_tenant
from services.gateway.records.clock import to_datetime
from services.gateway.records.keys import ApiKey, KeyStore, TooManyKeys
from services.gateway.settings import Settings


def main(arguments: list[str] | None = None) -> None:
    wanted = _parser().parse_args(arguments)
    if wanted.command == "make":
        print(apikeys.make().text)
        return
    try:
        settings = Settings.from_environment(**({} if wanted.data is None else {"data": wanted.data}))
        asyncio.run(_run(settings, wanted))
    except InvalidSettings as error:
        sys.exit(str(error))


async def _run(settings: Settings, wanted: argparse.Namespace) -> None:
    async with guard.records(settings) as database:
        keys = KeyStore(database)
        if wanted.command == "create":
            await _create(keys, wanted)
        elif wanted.command == "revoke":
            await _revoke(keys, wanted)
        else:
            for key in await keys.list(wanted.tenant):
                print(_line(key))


async def _create(keys: KeyStore, wanted: argparse.Namespace) -> None:
    try:
        key, secret = await issue(
            keys, tenant=wanted.tenant, name=wanted.name, scopes=wanted.scope, expires_days=wanted.expires_days
        )
    except TooManyKeys:
        sys.exit(f"{wanted.tenant} has two live keys {wanted.name!r}. Revoke the old one, or choose another name.")
    print(_line(key), file=sys.stderr)
    print("Shown once, keep it now:", file=sys.stderr)
    print(secret.text)  # alone on stdout: `... create ... > key` keeps just the key


async def _revoke(keys: KeyStore, wanted: argparse.Namespace) -> None:
    found = [key for key in await keys.list(wanted.tenant) if _names(wanted.key, key)]
    if len(found) > 1:
        shown = "\n".join(map(_line, found))
        sys.exit(f"{len(found)} keys of {wanted.tenant} begin so. Write more of the prefix, or the id:\n{shown}")
    key = await keys.revoke(found[0].id, wanted.tenant) if found else None
    if key is None:
        sys.exit(f"{wanted.tenant} has no such key. `list --tenant {wanted.tenant}` shows ids and prefixes.")
    print(_line(key))


def _names(text: str, key: ApiKey) -> bool:
    """Whether `text` is the key's id, the beginning of its prefix as `list` shows it, or the whole key."""
    if secret := apikeys.parse(text):
        return key.prefix == secret.prefix
    beginning = text.removesuffix("...")
    return text == key.id or (len(beginning) > len("csk_") and key.prefix.startswith(beginning))


def _line(key: ApiKey) -> str:
    state = f"until {to_datetime(key.expires_at):%Y-%m-%d}" if key.expires_at else "live"
    state = "revoked" if key.revoked_at else state
    used = f"last used {to_datetime(key.last_used_at):%Y-%m-%d %H:%M}" if key.last_used_at else "never used"
    return f"{key.id}  {key.tenant}  {key.name}  {key.prefix}...  {','.join(key.scopes)}  {state}  {used}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.gateway.keys", description="API keys of the gateway")
    parser.add_argument("--data", type=Path, help="folder of the records, where CLAIMSIGHT_GATEWAY_* does not say it")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make", help="print a key that nothing knows yet, for CLAIMSIGHT_GATEWAY_ADMIN_KEY")
    create = commands.add_parser("create", help="make a key and print it once")
    create.add_argument(
        "--name", required=True, type=_name, help="what it is for; two live keys may share a name, for rotation"
    )
    create.add_argument("--scope", required=True, action="append", choices=get_args(Scope), help="repeat for more")
    create.add_argument("--expires-days", type=_days, help="without it, it lives until it is revoked")
    listed = commands.add_parser("list", help="a tenant's keys; the secrets are not kept")
    revoke = commands.add_parser("revoke", help="end a key; running gateways follow within five seconds")
    revoke.add_argument("key", help="its id, or its prefix as `list` shows it: csk_...")
    for command in (create, listed, revoke):
        command.add_argument("--tenant", required=True, type=_tenant, help="whose: a-z, 0-9, - and _")
    return parser


def _tenant(text: str) -> str:
    if not valid_tenant(text):
        raise argparse.ArgumentTypeError("1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit")
    return text


def _name(text: str) -> str:
    if not 1 <= len(text) <= 100 or not text.isprintable():
        raise argparse.ArgumentTypeError("1 to 100 characters that can be printed")
    return text


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= 3650):
        raise argparse.ArgumentTypeError("a whole number from 1 to 3650")
    return int(text)


if __name__ == "__main__":
    main()
