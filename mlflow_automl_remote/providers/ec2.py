"""Machines of Amazon EC2 that stand for targets, through boto3."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Mapping
from typing import Any, Final

from mlflow_automl_remote.errors import ConfigurationError, ProviderFailed
from mlflow_automl_remote.providers import ec2_api
from mlflow_automl_remote.providers.base import MachineOrder, MadeMachine, Say, answers
from mlflow_automl_remote.providers.ec2_api import (
    OWNER,
    TARGET,
    TOKEN,
    Machine,
    connected,
    delete_group,
    find,
    groups,
    having,
    known,
    machines,
    session_of,
    tagged,
    tags_of,
    wait_for,
)
from mlflow_automl_remote.providers.keys import public_half
from mlflow_automl_remote.providers.switch_off import watch_unit

NAME: Final = "ec2"
OPTIONS: Final[Mapping[str, str]] = {
    "region": "Where.  [default: that of your AWS settings]",
    "profile": "Of your AWS settings.  [default: AWS_PROFILE]",
    "instance_type": "Size, such as c7i.4xlarge.  [default: m7i.2xlarge]",
    "image": "AMI with cloud-init and python3.  [default: newest Ubuntu 24.04]",
    "user": "Account that the image lets in.  [default: ubuntu]",
    "disk_gib": "Size of its disk.  [default: 50]",
    "open_to": "Addresses that reach its SSH server, as 203.0.113.7/32; makes a security group.",
    "security_group": "Security group of yours, in place of `open_to`.",
    "subnet": "Subnet of yours.  [default: that of the default network]",
    "address": "public or private: which of its addresses is used.  [default: public]",
}
INSTANCE_TYPE: Final = "m7i.2xlarge"
DISK_GIB: Final = 50
USER: Final = "ubuntu"
IMAGE_OWNER: Final = "099720109477"  # Canonical
IMAGE_NAMES: Final = "ubuntu/images/hvm-ssd*/ubuntu-noble-24.04-{architecture}-server-*"
ARCHITECTURES: Final = {"x86_64": "amd64", "arm64": "arm64"}


class Ec2:
    """Makes instances of EC2. What it may do there is what boto3 finds, of your settings.

    Args:
        options: See `OPTIONS`.

    Raises:
        ConfigurationError: An option has a value that is not allowed.
    """

    name = NAME

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options
        self._settled: Mapping[str, str] | None = None
        self._address = options.get("address", "public")
        if self._address not in ("public", "private"):
            raise ConfigurationError(
                f"The option 'address' must be public or private. Got '{self._address}'."
            )
        text = options.get("disk_gib", str(DISK_GIB))
        if not text.isdecimal() or int(text) < 8:
            raise ConfigurationError(
                f"The option 'disk_gib' must be a whole number, 8 or more. Got '{text}'."
            )
        self._disk_gib = int(text)

    @property
    def options(self) -> Mapping[str, str]:
        """See `Provider.options`: with the region and the profile of your AWS settings."""
        if self._settled is None:
            session = session_of(self._options)
            if not session.region_name:
                raise ConfigurationError(
                    "No AWS region is chosen. Give --option region=NAME or set AWS_DEFAULT_REGION."
                )
            self._settled = {**self._options, "region": session.region_name}
            if session.profile_name != "default":
                self._settled["profile"] = session.profile_name
        return self._settled

    def create(self, order: MachineOrder, say: Say) -> MadeMachine:
        """See `Provider.create`."""
        tags = {
            "Name": f"automl-remote {order.name}",
            TOKEN: order.token,
            OWNER: order.owner,
            TARGET: order.name,
        }
        kind = self._options.get("instance_type", INSTANCE_TYPE)
        group = self._options.get("security_group")
        network = None if group else self._network()
        with connected(self.options) as client:
            if network is not None:
                group = self._open_group(client, tags, network, say)
            image = self._image(client, kind)
            say(f"Starting a {kind} of {image['ImageId']} in {client.meta.region_name}")
            placed = {"SubnetId": self._options["subnet"]} if "subnet" in self._options else {}
            client.run_instances(
                **placed,
                ClientToken=order.token,  # asked twice, it is made once
                ImageId=image["ImageId"],
                InstanceType=kind,
                MinCount=1,
                MaxCount=1,
                SecurityGroupIds=[group],
                UserData=cloud_config(order, self._options.get("user", USER)),
                InstanceInitiatedShutdownBehavior="stop",
                MetadataOptions={"HttpTokens": "required"},
                BlockDeviceMappings=[
                    {
                        "DeviceName": image["RootDeviceName"],
                        "Ebs": {
                            "VolumeSize": self._disk_gib,
                            "VolumeType": "gp3",
                            "DeleteOnTermination": True,
                        },
                    }
                ],
                TagSpecifications=[tagged(kind, tags) for kind in ("instance", "volume")],
            )
            say("Waiting until it has started")
            return self._up(client, order.token, say)

    def find(self, token: str, details: str) -> MadeMachine | None:
        """See `Provider.find`."""
        with connected(self.options) as client:
            machine = find(client, token)
            return None if machine is None else self._made(client, machine)

    def start(self, token: str, details: str) -> None:
        """See `Provider.start`."""
        with connected(self.options) as client:
            client.start_instances(InstanceIds=[known(client, token)["InstanceId"]])
            self._up(client, token)

    def stop(self, token: str, details: str) -> None:
        """See `Provider.stop`."""
        with connected(self.options) as client:
            client.stop_instances(InstanceIds=[known(client, token)["InstanceId"]])
            wait_for(client, token, "stopped")

    def destroy(self, token: str, details: str) -> None:
        """See `Provider.destroy`."""
        with connected(self.options) as client:
            machine = find(client, token)
            if machine is not None:
                client.terminate_instances(InstanceIds=[machine["InstanceId"]])
            for group in groups(client, TOKEN, token):
                delete_group(client, group["GroupId"])

    def mine(self, owner: str) -> tuple[MadeMachine, ...]:
        """See `Provider.mine`; a security group without a machine is there to be destroyed too."""
        with connected(self.options) as client:
            found = [self._made(client, one) for one in machines(client, OWNER, owner)]
            tokens = {one.token for one in found}
            left = (tags_of(group) for group in groups(client, OWNER, owner))
            return (
                *found,
                *(
                    MadeMachine(token=tags[TOKEN], name=tags[TARGET], is_running=False)
                    for tags in left
                    if tags[TOKEN] not in tokens
                ),
            )

    def _network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """Give from which addresses the machine is to be reached."""
        given = self._options.get("open_to", "")
        try:
            return ipaddress.ip_network(given)
        except ValueError as error:
            raise ConfigurationError(
                "The option 'open_to' must say from which addresses the machine is reached, such "
                f"as 203.0.113.7/32 for one. Got '{given}'. Or name a security group of yours "
                "with --option security_group=sg-..."
            ) from error

    def _open_group(
        self,
        client: Any,
        tags: Mapping[str, str],
        network: ipaddress.IPv4Network | ipaddress.IPv6Network,
        say: Say,
    ) -> str:
        """Make a security group that lets SSH in from where it is to be used."""
        say(f"Making a security group that lets SSH in from {network}")
        placed = {}
        if "subnet" in self._options:
            subnets = client.describe_subnets(SubnetIds=[self._options["subnet"]])["Subnets"]
            placed = {"VpcId": subnets[0]["VpcId"]}
        group = client.create_security_group(
            GroupName=f"automl-remote-{tags[TOKEN]}",
            Description="SSH to a target of automl-remote",
            TagSpecifications=[tagged("security-group", tags)],
            **placed,
        )["GroupId"]
        ranges = (
            {"IpRanges": [{"CidrIp": str(network)}]}
            if network.version == 4
            else {"Ipv6Ranges": [{"CidrIpv6": str(network)}]}
        )
        client.authorize_security_group_ingress(
            GroupId=group,
            IpPermissions=[{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **ranges}],
        )
        return str(group)

    def _image(self, client: Any, kind: str) -> Machine:
        """Give the image that was asked for, or the newest one of the machine's architecture."""
        asked = self._options.get("image")
        if asked is not None:
            found = client.describe_images(ImageIds=[asked])["Images"]
            where = f"no image '{asked}'"
        else:
            kinds = client.describe_instance_types(InstanceTypes=[kind])["InstanceTypes"]
            supported = kinds[0]["ProcessorInfo"]["SupportedArchitectures"]
            architecture = next(one for one in ARCHITECTURES if one in supported)
            pattern = IMAGE_NAMES.format(architecture=ARCHITECTURES[architecture])
            filters = [having("name", pattern), having("architecture", architecture)]
            found = client.describe_images(Owners=[IMAGE_OWNER], Filters=filters)["Images"]
            where = f"no image of the name {pattern}"
        if not found:
            raise ProviderFailed(
                f"EC2 has {where} in {client.meta.region_name}. "
                "Give one with: --option image=ami-..."
            )
        return dict(max(found, key=lambda image: str(image["CreationDate"])))

    def _up(self, client: Any, token: str, say: Say = lambda _: None) -> MadeMachine:
        """Wait until a machine runs and its SSH server answers."""
        made = self._made(client, wait_for(client, token, "running", say))
        say(f"Waiting for its SSH server at {made.host}")
        deadline = time.monotonic() + ec2_api.WAIT_S
        while not answers(made.host, made.port):
            if time.monotonic() > deadline:
                raise ProviderFailed(
                    f"The machine's SSH server at {made.host} does not answer within "
                    f"{ec2_api.WAIT_S:.0f} s. Look whether its security group lets you in."
                )
            time.sleep(ec2_api.POLL_S)
        return made

    def _made(self, client: Any, machine: Machine) -> MadeMachine:
        tags = tags_of(machine)
        key = "PublicIpAddress" if self._address == "public" else "PrivateIpAddress"
        return MadeMachine(
            token=tags[TOKEN],
            name=tags.get(TARGET, ""),
            is_running=machine["State"]["Name"] in ("pending", "running"),
            host=machine.get(key) or "",
            user=self._options.get("user", USER),
            size=f"{machine['InstanceType']} in {client.meta.region_name}",
        )


def cloud_config(order: MachineOrder, account: str) -> str:
    """Give what cloud-init does at the first boot: the SSH server's key, and who is let in."""
    config = {
        "ssh_keys": {
            "ed25519_private": order.host_key,
            "ed25519_public": public_half(order.host_key),
        },
        "ssh_authorized_keys": [order.public_key],
        "disable_root": True,
        "ssh_pwauth": False,
        **watch_unit(order, account),
    }
    return f"#cloud-config\n{json.dumps(config)}\n"  # JSON is YAML
