"""Network interface of the ranks: the one with Ray's address of the machine."""

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
    """Ray's torch backend, set up after `choose_card` on every rank.

    By default gloo uses the interface of the host name. On many systems this is the loopback
    interface, and ranks on different machines then cannot connect.
    """

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """Backend that Ray Train starts before the ranks."""
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(choose_card)
        super().on_start(worker_group, backend_config)


def choose_card() -> None:
    """Set gloo's interface to that of Ray's address, unless one is configured."""
    import ray

    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    card = card_of(address)
    if card is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", card)


def card_of(address: str) -> str | None:
    """Name of the network interface with an IPv4 address, or None; Linux only."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
            except OSError:  # an interface without an address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
