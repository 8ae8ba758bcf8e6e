"""Which network card the ranks talk over: the one by which Ray knows their machine."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

__all__ = ["RankConfig", "card_of", "choose_card"]

_SIOCGIFADDR = 0x8915


@dataclass
class RankConfig(TorchConfig):
    """Ray's own set-up, after `choose_card` on every rank.

    Left to itself gloo takes the card of the machine's host name, which on many systems is the
    loopback: ranks on two machines then look for each other at home.
    """

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """What Ray Train starts before the ranks."""
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(choose_card)
        super().on_start(worker_group, backend_config)


def choose_card() -> None:
    """Tell gloo the card of Ray's address, unless the administrator has chosen one."""
    import ray

    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    card = card_of(address)
    if card is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", card)


def card_of(address: str) -> str | None:
    """Name of the network card with an IPv4 address, or None; Linux only."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
            except OSError:  # a card without an address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
