"""Talks to EC2: signs in, tells its errors as ours, finds what there is by tags, and waits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from mlflow_automl_remote.errors import ConfigurationError, ProviderFailed
from mlflow_automl_remote.providers.base import Say

if TYPE_CHECKING:
    from boto3.session import Session

TOKEN, OWNER, TARGET = (f"automl-remote-{word}" for word in ("token", "owner", "target"))
ENDED: Final = ("terminated", "shutting-down")
WAIT_S: Final = 300.0
POLL_S: Final = 2.0
SAY_S: Final = 15.0

Machine = dict[str, Any]
"""What EC2 says of an instance."""


def session_of(options: Mapping[str, str]) -> Session:
    """Give AWS's settings, as its own tools find them.

    Raises:
        ConfigurationError: They name nothing that there is, or boto3 is not there.
    """
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise ConfigurationError(
            "The provider 'ec2' needs boto3: pip install 'mlflow-automl-remote[aws]'"
        ) from error
    try:
        # one of our own: the default one keeps credentials
        return boto3.session.Session(
            profile_name=options.get("profile"), region_name=options.get("region")
        )
    except BotoCoreError as error:
        raise ConfigurationError(f"Your AWS settings are wrong: {_said(error)}.") from error


@contextmanager
def connected(options: Mapping[str, str]) -> Iterator[Any]:
    """Connect to EC2; give what it says as one of our errors."""
    session = session_of(options)
    from botocore.config import Config
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    config = Config(retries={"mode": "standard"}, connect_timeout=10, read_timeout=60)
    try:
        yield session.client("ec2", config=config)
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigurationError(
            f"AWS is not told who you are: {_said(error)}. Sign in as for its own tools: aws "
            "configure, or AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        said = " ".join(str(error.response.get("Error", {}).get("Message", error)).split())
        raise ProviderFailed(
            f"EC2 refuses {error.operation_name}: {code}: {said[:300].rstrip('.')}. "
            f"{_REMEDIES.get(code, '')}".rstrip()
        ) from error
    except BotoCoreError as error:
        raise ProviderFailed(
            f"EC2 cannot be asked: {_said(error)}. Look at your settings with: "
            "aws sts get-caller-identity"
        ) from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


_SIGN_IN: Final = "Sign in to AWS again."
_REMEDIES: Final[Mapping[str, str]] = {
    "VcpuLimitExceeded": "Ask AWS for a higher quota, or take a smaller instance_type.",
    "InstanceLimitExceeded": "Ask AWS for a higher quota, or destroy machines.",
    "InsufficientInstanceCapacity": "Take another instance_type, subnet or region.",
    "InvalidInstanceType": "Take another instance_type.",
    "Unsupported": "Take another instance_type, subnet or region.",
    "UnauthorizedOperation": "The administrator of the AWS account has to permit it.",
    "AuthFailure": _SIGN_IN,
    "InvalidClientTokenId": _SIGN_IN,
    "ExpiredToken": _SIGN_IN,
    "RequestExpired": f"{_SIGN_IN} Look at the clock of this machine, too.",
}


def having(name: str, value: str) -> dict[str, object]:
    """Give a filter of EC2."""
    return {"Name": name, "Values": [value]}


def tagged(kind: str, tags: Mapping[str, str]) -> dict[str, object]:
    """Give tags that a thing has from its first moment."""
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"ResourceType": kind, "Tags": pairs}


def tags_of(thing: Mapping[str, Any]) -> dict[str, str]:
    """Give the tags of a thing."""
    return {str(tag["Key"]): str(tag["Value"]) for tag in thing.get("Tags", ())}


def machines(client: Any, tag: str, value: str) -> list[Machine]:
    """Find machines that are not gone, by a tag."""
    pages = client.get_paginator("describe_instances").paginate(
        Filters=[having(f"tag:{tag}", value)]
    )
    found = (one for page in pages for group in page["Reservations"] for one in group["Instances"])
    return [one for one in found if one["State"]["Name"] not in ENDED]


def groups(client: Any, tag: str, value: str) -> list[Machine]:
    """Find security groups, by a tag."""
    filters = [having(f"tag:{tag}", value)]
    return list(client.describe_security_groups(Filters=filters)["SecurityGroups"])


def find(client: Any, token: str) -> Machine | None:
    """Find the machine of a token."""
    found = machines(client, TOKEN, token)
    return found[0] if found else None


def known(client: Any, token: str) -> Machine:
    """Give the machine of a token; it has to be there."""
    machine = find(client, token)
    if machine is None:
        raise ProviderFailed("The machine of this target is gone. Forget it with: destroy")
    return machine


def wait_for(client: Any, token: str, state: str, say: Say = lambda _: None) -> Machine:
    """Wait until a machine is in a state."""
    told = time.monotonic()
    deadline = told + WAIT_S
    was = ""  # EC2 may take a moment until it finds what it has just made
    while True:
        machine = find(client, token)
        now = machine["State"]["Name"] if machine else "gone"
        if machine is not None and now == state:
            return machine
        if time.monotonic() > deadline or (was and now == "gone"):
            raise ProviderFailed(
                f"The machine is {now}, not {state}, and was {was or 'never seen'} before. EC2's "
                "console says why; often there is no room for this instance_type just now."
            )
        was = now if machine else was
        if time.monotonic() - told > SAY_S:
            told = time.monotonic()
            say(f"It is {now} yet")
        time.sleep(POLL_S)


def delete_group(client: Any, group: str) -> None:
    """Delete a security group; the machine that had it lets it go a little after its end."""
    from botocore.exceptions import ClientError

    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            client.delete_security_group(GroupId=group)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code != "DependencyViolation" or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(POLL_S)
