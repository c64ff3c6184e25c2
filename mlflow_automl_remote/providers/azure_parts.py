"""The parts of a machine of Azure as its API wants them: network, address, card, machine."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mlflow_automl_remote.providers.base import MachineOrder
from mlflow_automl_remote.providers.keys import public_half

ACCOUNT: Final = "automl"
PART: Final = "machine"
"""The name of everything in a group, which has one of each kind."""

Part = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a machine is to be.

    Attributes:
        location: Where.
        kind: Size, as Azure names it.
        image: Publisher, offer, SKU, version.
        disk_gib: Size of its disk.
    """

    location: str
    kind: str
    image: Sequence[str]
    disk_gib: int


def guard(location: str, ssh_from: str) -> Part:
    """Describe a security group that lets nothing in but SSH from a network."""
    rule = {
        "priority": 100,
        "direction": "Inbound",
        "access": "Allow",
        "protocol": "Tcp",
        "sourceAddressPrefix": ssh_from,
        "sourcePortRange": "*",
        "destinationAddressPrefix": "*",
        "destinationPortRange": "22",
    }
    rules = [{"name": "ssh", "properties": rule}]
    return {"location": location, "properties": {"securityRules": rules}}


def network(location: str, guard_id: str) -> Part:
    """Describe a network of one subnet, behind a security group."""
    subnet = {"addressPrefix": "10.0.0.0/24", "networkSecurityGroup": {"id": guard_id}}
    space = {
        "addressSpace": {"addressPrefixes": ["10.0.0.0/24"]},
        "subnets": [{"name": PART, "properties": subnet}],
    }
    return {"location": location, "properties": space}


def address(location: str) -> Part:
    """Describe a public address that stays the same."""
    chosen = {"publicIPAllocationMethod": "Static"}
    return {"location": location, "sku": {"name": "Standard"}, "properties": chosen}


def card(location: str, subnet_id: str, address_id: str) -> Part:
    """Describe what ties a machine to a subnet and an address."""
    leads = {"subnet": {"id": subnet_id}, "publicIPAddress": {"id": address_id}}
    configurations = [{"name": PART, "properties": leads}]
    return {"location": location, "properties": {"ipConfigurations": configurations}}


def machine(order: MachineOrder, wish: Wish, card_id: str) -> Part:
    """Describe the machine itself, with its host key and who is let in."""
    key = {"path": f"/home/{ACCOUNT}/.ssh/authorized_keys", "keyData": order.public_key}
    publisher, offer, sku, version = wish.image
    system = {
        "computerName": order.name.replace("_", "-")[:63].rstrip("-"),
        "adminUsername": ACCOUNT,
        "customData": base64.b64encode(_cloud_config(order).encode()).decode(),
        "linuxConfiguration": {
            "disablePasswordAuthentication": True,
            "ssh": {"publicKeys": [key]},
        },
    }
    disk = {
        "createOption": "FromImage",
        "deleteOption": "Delete",
        "diskSizeGB": wish.disk_gib,
        "managedDisk": {"storageAccountType": "StandardSSD_LRS"},
    }
    image = {"publisher": publisher, "offer": offer, "sku": sku, "version": version}
    return {
        "location": wish.location,
        "properties": {
            "hardwareProfile": {"vmSize": wish.kind},
            "storageProfile": {"imageReference": image, "osDisk": disk},
            "osProfile": system,
            "networkProfile": {"networkInterfaces": [{"id": card_id}]},
        },
    }


def _cloud_config(order: MachineOrder) -> str:
    """Write what cloud-init reads; JSON is YAML."""
    keys = {
        "ed25519_private": order.host_key,
        "ed25519_public": public_half(order.host_key),
    }
    return f"#cloud-config\n{json.dumps({'ssh_keys': keys})}\n"
