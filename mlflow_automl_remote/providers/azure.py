"""Machines of Microsoft Azure, each in a resource group of its own, through Azure's SDK."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from mlflow_automl_remote.errors import ConfigurationError, ProviderFailed
from mlflow_automl_remote.providers import azure_parts
from mlflow_automl_remote.providers.azure_parts import ACCOUNT, PART
from mlflow_automl_remote.providers.base import MachineOrder, MadeMachine, Say

NAME: Final = "azure"
OPTIONS: Final[Mapping[str, str]] = {
    "subscription": "Id of who pays; az account show --query id",
    "location": "Where, such as westeurope.",
    "ssh_from": "Network that may reach its SSH server, such as 203.0.113.7/32.",
    "vm_size": "What it costs by.  [default: Standard_D2s_v3]",
    "image": "PUBLISHER:OFFER:SKU:VERSION.  [default: Ubuntu 24.04's newest]",
    "disk_gib": "Size of its disk.  [default: 30]",
}
VM_SIZE: Final = "Standard_D2s_v3"
IMAGE: Final = "Canonical:ubuntu-24_04-lts:server:latest"
DISK_GIB: Final = 30
TOKEN, OWNER, TARGET = (f"automl-remote-{word}" for word in ("token", "owner", "target"))
ARM: Final = "https://management.azure.com"
LIMIT_S: Final = 1800.0
"""How long one step may take."""
SAY_S: Final = 15.0
_REMEDIES: Final[Mapping[str, str]] = {
    "AuthorizationFailed": "The subscription's administrator has to permit it.",
    "InvalidSubscriptionId": "Give --option subscription=ID of another one.",
    "SubscriptionNotFound": "Give --option subscription=ID of another one.",
    "LocationNotAvailableForResourceGroup": "Give another --option location=NAME.",
    "OperationNotAllowed": "Ask Azure for more quota, or take another vm_size or location.",
    "QuotaExceeded": "Ask Azure for more quota, or take another vm_size or location.",
    "SkuNotAvailable": "Take another vm_size or location.",
    "AllocationFailed": "Take another vm_size or location.",
}


class Azure:
    """Makes a machine with its network, disk and address; they all go with its group.

    Args:
        options: See `OPTIONS`.

    Raises:
        ConfigurationError: An option has a value that is not allowed, or the SDK is not there.
    """

    name = NAME

    def __init__(self, options: Mapping[str, str]) -> None:
        if "subscription" not in options:
            raise ConfigurationError(
                f"The provider '{NAME}' needs --option subscription=ID. "
                "Yours is: az account show --query id"
            )
        self.options = options
        self._image = options.get("image", IMAGE).split(":")
        if len(self._image) != 4 or not all(self._image):
            raise ConfigurationError(
                f"The option 'image' must be PUBLISHER:OFFER:SKU:VERSION. Got "
                f"'{options['image']}'."
            )
        text = options.get("disk_gib", str(DISK_GIB))
        if not text.isdecimal() or int(text) < DISK_GIB:
            raise ConfigurationError(
                f"The option 'disk_gib' must be a whole number, {DISK_GIB} or more. Got '{text}'."
            )
        self._disk_gib = int(text)
        _check_network(options.get("ssh_from"))

    def create(self, order: MachineOrder, say: Say) -> MadeMachine:
        """See `Provider.create`; whether its SSH server answers is not known yet."""
        if not {"location", "ssh_from"} <= self.options.keys():
            raise ConfigurationError(
                f"The provider '{NAME}' needs --option location=NAME, and --option "
                "ssh_from=NETWORK, such as your own address followed by /32."
            )
        if order.ends_itself:
            raise ConfigurationError(
                "A machine that switches itself off is paid for at Azure until it is deallocated "
                "from outside. Leave out --ttl and --idle-stop, and end its cost with: "
                f"automl-remote target stop {order.name}"
            )
        wish = azure_parts.Wish(
            location=self.options["location"],
            kind=self.options.get("vm_size", VM_SIZE),
            image=self._image,
            disk_gib=self._disk_gib,
        )
        group = _group(order.token)
        with self._clients() as clients:
            clients.sign_in()
            size = _size(clients, wish)
            say(f"Making the resource group {group} in {wish.location}")
            tags = {TOKEN: order.token, OWNER: order.owner, TARGET: order.name}
            clients.resource.resource_groups.create_or_update(
                group, {"location": wish.location, "tags": tags}
            )
            say(f"Making its network, open to SSH from {self.options['ssh_from']}")
            card = self._connect(clients, group, wish.location, say)
            say(f"Making a machine: {size}")
            machines = clients.compute.virtual_machines
            part = azure_parts.machine(order, wish, card)
            _wait(machines.begin_create_or_update(group, PART, part), say)
            return _made(clients, order.token, size)

    def _connect(self, clients: _Clients, group: str, location: str, say: Say) -> str:
        """Make a network with one address; give the id of the card in it."""
        made = clients.network

        def make(kind: Any, part: azure_parts.Part) -> Any:
            return _wait(kind.begin_create_or_update(group, PART, part), say)

        guard = make(
            made.network_security_groups, azure_parts.guard(location, self.options["ssh_from"])
        )
        network = make(made.virtual_networks, azure_parts.network(location, guard.id))
        address = make(made.public_ip_addresses, azure_parts.address(location))
        card = make(
            made.network_interfaces,
            azure_parts.card(location, network.subnets[0].id, address.id),
        )
        return str(card.id)

    def find(self, token: str, details: str) -> MadeMachine | None:
        """See `Provider.find`."""
        with self._clients() as clients:
            if not clients.resource.resource_groups.check_existence(_group(token)):
                return None
            return _made(clients, token)

    def start(self, token: str, details: str) -> None:
        """See `Provider.start`; whether its SSH server answers is not known yet."""
        with self._clients() as clients:
            _wait(clients.compute.virtual_machines.begin_start(_group(token), PART))

    def stop(self, token: str, details: str) -> None:
        """Give the cores back, which cost; disk and address stay."""
        with self._clients() as clients:
            _wait(clients.compute.virtual_machines.begin_deallocate(_group(token), PART))

    def destroy(self, token: str, details: str) -> None:
        """Delete the group, and with it all that was made for the machine."""
        from azure.core.exceptions import ResourceNotFoundError

        with self._clients() as clients:
            try:
                _wait(clients.resource.resource_groups.begin_delete(_group(token)))
            except ResourceNotFoundError:
                return

    def mine(self, owner: str) -> tuple[MadeMachine, ...]:
        """See `Provider.mine`; a group counts, whatever there is in it yet."""
        with self._clients() as clients:
            groups = clients.resource.resource_groups.list(
                filter=f"tagName eq '{OWNER}' and tagValue eq '{owner}'"
            )
            return tuple(
                MadeMachine(token=group.tags[TOKEN], name=group.tags.get(TARGET, ""))
                for group in groups
                if group.tags and TOKEN in group.tags
            )

    @contextmanager
    def _clients(self) -> Iterator[_Clients]:
        """Give Azure's clients; give what it says as one of our errors."""
        clients = _Clients(self.options["subscription"])
        from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

        try:
            yield clients
        except ClientAuthenticationError as error:
            raise ProviderFailed(_who(error)) from error
        except HttpResponseError as error:
            code = str(getattr(error.error, "code", "") or "")
            remedy = _REMEDIES.get(code, "Look at the options given.")
            raise ProviderFailed(f"Azure does not do it: {_said(error)}. {remedy}") from error
        except AzureError as error:
            raise ProviderFailed(
                f"Azure cannot be asked: {_said(error)}. Look at the network."
            ) from error


class _Clients:
    """The three clients that it takes, which sign in the way of Azure's own tools."""

    def __init__(self, subscription: str) -> None:
        try:
            from azure.identity import DefaultAzureCredential
            from azure.mgmt.compute import ComputeManagementClient
            from azure.mgmt.network import NetworkManagementClient
            from azure.mgmt.resource.resources import ResourceManagementClient
        except ImportError as error:
            raise ConfigurationError(
                f"The provider '{NAME}' needs Azure's SDK. Install it with: "
                'pip install "mlflow-automl-remote[azure]"'
            ) from error
        # What failed comes as an error; the SDK logs it, too, in a line for each way to sign in.
        logging.getLogger("azure").addHandler(logging.NullHandler())
        self._credential = SETTINGS.get("credential") or DefaultAzureCredential()
        chosen = {"base_url": ARM, **SETTINGS, "credential": self._credential}
        # Any: what they return is typed for one version of an API, and dicts are sent to all
        self.compute: Any = ComputeManagementClient(subscription_id=subscription, **chosen)
        self.network: Any = NetworkManagementClient(subscription_id=subscription, **chosen)
        self.resource: Any = ResourceManagementClient(subscription_id=subscription, **chosen)

    def sign_in(self) -> None:
        """Find out that Azure knows who we are, before anything is made."""
        from azure.core.exceptions import ClientAuthenticationError

        try:
            self._credential.get_token(f"{ARM}/.default")
        except ClientAuthenticationError as error:
            raise ConfigurationError(_who(error)) from error


SETTINGS: dict[str, Any] = {}
"""Further settings of the clients, for another cloud than Azure's public one."""


def _group(token: str) -> str:
    return f"automl-remote-{token}"


def _who(error: Exception) -> str:
    first = str(getattr(error, "message", None) or error).splitlines()[0][:300].rstrip(". ")
    return f"Azure is not told who you are: {first}. Sign in with: az login"


def _said(error: Exception) -> str:
    inner = getattr(error, "error", None)
    text = getattr(inner, "message", None) or getattr(error, "message", None) or str(error)
    return " ".join(str(text).split())[:300].rstrip(".")


def _check_network(text: str | None) -> None:
    try:
        if text is not None:
            ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigurationError(
            f"The option 'ssh_from' must be a network such as 203.0.113.7/32: {error}."
        ) from error


def _made(clients: _Clients, token: str, size: str = "") -> MadeMachine:
    from azure.core.exceptions import ResourceNotFoundError

    group = _group(token)
    try:
        machine = clients.compute.virtual_machines.get(group, PART, expand="instanceView")
        address = clients.network.public_ip_addresses.get(group, PART)
    except ResourceNotFoundError:  # an interrupted creation left a part of it
        return MadeMachine(token=token, name="", is_running=False)
    statuses = machine.instance_view.statuses if machine.instance_view else None
    return MadeMachine(
        token=token,
        name="",
        is_running="PowerState/running" in [status.code for status in statuses or ()],
        host=str(address.ip_address or ""),
        user=ACCOUNT,
        size=size or str(machine.hardware_profile.vm_size),
    )


def _size(clients: _Clients, wish: azure_parts.Wish) -> str:
    """Say what a size is; one that is not to be had is an error before anything is made."""
    for known in clients.compute.virtual_machine_sizes.list(wish.location):
        if known.name == wish.kind:
            return f"{wish.kind}: {known.number_of_cores} cores, {known.memory_in_mb / 1024:g} GiB"
    raise ConfigurationError(
        f"There is no machine of size '{wish.kind}' in {wish.location}. Look for another with: "
        f"az vm list-sizes --location {wish.location} --output table"
    )


def _wait(poller: Any, say: Say | None = None) -> Any:
    """Wait for one step of Azure's, and give what came of it."""
    begin = time.monotonic()
    while not poller.done():
        poller.wait(SAY_S)
        waited = time.monotonic() - begin
        if waited > LIMIT_S:
            raise ProviderFailed(f"Azure has not done it after {waited:.0f} s.")
        if say and not poller.done():
            say(f"Azure is at it, for {waited:.0f} s")
    return poller.result()
