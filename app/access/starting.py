"""What a server must not be started with."""

from __future__ import annotations

from app.access.addresses import is_local
from app.access.tokens import MANAGEMENT, read_tokens, tokens_path
from app.errors import LaunchError
from app.settings import PREFIX, Settings


def check_management(settings: Settings, told: str = "", meant: str = "") -> None:
    """Refuse to let strangers manage: who may register a model may run code.

    :param told: what opens management, as its user has written it; the setting where it is not given.
    :param meant: what its user would write to say that it is meant so.
    :raises LaunchError: where management is reached from other machines, and there is no token for it.
    :raises TokenError: where the tokens cannot be read.
    """
    guarded = any(one.role == MANAGEMENT for one in read_tokens(tokens_path(settings)).values())
    if guarded or settings.management_without_token or is_local(settings.management_host):
        return
    raise LaunchError(
        f"{told or f'{PREFIX}MANAGEMENT_HOST={settings.management_host}'} would let everybody who reaches this machine "
        "register models, and so run code. Create a token first (dimple token add NAME --role management), or "
        f"say that it is meant so: {meant or f'{PREFIX}MANAGEMENT_WITHOUT_TOKEN=true'}."
    )
