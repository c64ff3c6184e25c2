"""Which machine a sweep runs on, as the backend config names it. Contacts nothing."""

from __future__ import annotations

import getpass
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from mlflow_automl_remote.compute import registries, saved
from mlflow_automl_remote.compute.containers import KEYS as CONTAINER_KEYS
from mlflow_automl_remote.compute.containers import ContainerSpec, parse_container
from mlflow_automl_remote.compute.credentials import Credentials
from mlflow_automl_remote.compute.local import LABEL
from mlflow_automl_remote.compute.ray_cluster import HOSTS_KEY, parse_ray, require_ray
from mlflow_automl_remote.compute.ray_cluster import KEY as RAY_KEY
from mlflow_automl_remote.compute.ssh_config import host_settings
from mlflow_automl_remote.errors import ConfigurationError

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.registries import RegistryLogin

_Word = TypeVar("_Word", bound=str)
EnvManager = Literal["uv", "conda", "local"]
PublishFrom = Literal["client", "target"]
PUBLISH_FROM: Final[tuple[PublishFrom, ...]] = ("client", "target")
ENV_MANAGERS: Final[tuple[EnvManager, ...]] = ("uv", "conda", "local")
HOME_VARIABLE: Final = "AUTOML_REMOTE_HOME"
"""Names another root than `~/.automl-remote` for this machine as a target."""
SSH_KEYS: Final = (
    "host",
    "user",
    "port",
    "key_file",
    "known_hosts",
    "proxy_jump",
    "root",
    "python",
    "env_manager",
    "wheelhouse",
    "resume_on_boot",
    "publish_from",
    "forward_variables",
    "overcommit",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """A compute target; writes no secret down.

    Attributes:
        name: Under which it is saved on the client, or None.
        host: Name, address or alias of `~/.ssh/config`; None is this machine.
        user: Account on the host.
        port: Of its SSH server.
        key_files: Private keys to log in with; none tries the agent and the usual ones.
        known_hosts: File that vouches for the host key; None reads the usual ones.
        proxy_jump: Hosts to go through, as `ssh -J` takes them.
        root: Folder on the target that holds everything of ours; None is `~/.automl-remote`.
        python: Interpreter on the target that runs the control helper; 3.8 or newer.
        env_manager: `uv` or `conda` builds the agent's environment; `local` takes `python` as it
            is.
        wheelhouse: Whether the client brings the packages, for a host that reaches no index.
        resume_on_boot: Whether the host goes on with a sweep by itself after a reboot.
        publish_from: Whether the client or the host writes into MLflow.
        forward_variables: Names of variables that the host gets for it, beside those of the
            tracking server.
        overcommit: Whether `max_concurrent_iterations` may be more than its memory carries.
        container: In which a sweep runs; None for none.
        registry_login: To pull its image with, as long as this client lives; None for none.
        ray: Address of the Ray cluster that iterations run on, seen from the target; None for
            none.
        others: Hosts that make a Ray cluster with this one, which is its head.
        address: By which the others reach this host; None finds one out.
    """

    name: str | None = None
    host: str | None = None
    user: str = ""
    port: int = 22
    key_files: tuple[str, ...] = ()
    known_hosts: str | None = None
    proxy_jump: str | None = None
    root: str | None = None
    python: str = "python3"
    env_manager: EnvManager = "uv"
    wheelhouse: bool = False
    resume_on_boot: bool = False
    publish_from: PublishFrom = "client"
    forward_variables: tuple[str, ...] = ()
    overcommit: bool = False
    container: ContainerSpec | None = None
    registry_login: RegistryLogin | None = field(default=None, repr=False, compare=False)
    ray: str | None = None
    others: tuple[TargetSpec, ...] = ()
    address: str | None = None

    @property
    def is_cluster(self) -> bool:
        """Whether iterations run on a Ray cluster."""
        return self.ray is not None or bool(self.others)

    @property
    def is_local(self) -> bool:
        """Whether the sweep runs on this machine."""
        return self.host is None

    @property
    def label(self) -> str:
        """The machine, as a person would name it."""
        if self.host is None:
            return LABEL
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != 22 else "")

    @property
    def full_label(self) -> str:
        """The machines, likewise."""
        return self.label + (f" and {len(self.others)} more" if self.others else "")

    def as_json(self) -> str:
        """Write the target for a tag of the run, without its secret."""
        content = asdict(replace(self, registry_login=None, others=()))
        content = {key: value for key, value in content.items() if value not in (None, ())}
        if self.others:
            content["others"] = [json.loads(other.as_json()) for other in self.others]
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> TargetSpec:
        """Read what `as_json` wrote; the key file need not be on this machine.

        Raises:
            ConfigurationError: It is not a target, or one of a newer version.
        """
        try:
            content = json.loads(text)
            content.pop("registry_login", None)
            key_file = content.pop("key_file", None)  # of versions that knew one only
            key_files = content.pop("key_files", [key_file] if key_file else [])
            names = content.pop("forward_variables", [])
            inside = content.pop("container", None)
            others = content.pop("others", [])
            spec = cls(
                **content,
                others=tuple(cls.from_json(json.dumps(other)) for other in others),
                key_files=tuple(key_files),
                forward_variables=tuple(names),
                container=None if inside is None else ContainerSpec.from_dict(inside),
            )
            _check_words(spec.host, spec.user or None, spec.proxy_jump)
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"'{text}' is not a compute target: {error}.") from error
        else:
            return spec

    def credentials(self) -> Credentials:
        """Give the secrets of a login: the environment's, and those saved with the target.

        A target that a run's tag tells of gets saved secrets only if it is the one that they were
        saved for: whoever can write tags must not be able to send them elsewhere.
        """
        here = Credentials.from_environment()
        if self.name is None or self.name not in saved.saved_names():
            return here
        known = saved.load(self.name)
        there = _parse_ssh(known.config)
        if (there.host, there.user, there.port) != (self.host, self.user, self.port):
            return here
        return here.or_else(known.credentials)


def parse_target(
    config: Mapping[str, object], docker_env: Mapping[str, Any] | None = None
) -> TargetSpec:
    """Read the compute target from a backend config.

    Args:
        config: `{}` or `{"target": "local"}` is this machine, `{"target": NAME}` one that was
            attached, `{"host": ...}` one over SSH. Other keys win over those that were saved.
        docker_env: Of an MLproject file.

    Raises:
        ConfigurationError: A key is unknown, or has a value that is not allowed.
    """
    container, ray = parse_container(config, docker_env), parse_ray(config)
    others = (*CONTAINER_KEYS, RAY_KEY)
    given = {key: value for key, value in config.items() if key not in others}
    cluster = next((key for key in (RAY_KEY, HOSTS_KEY) if config.get(key) is not None), None)
    if container is not None and cluster is not None:
        raise ConfigurationError(
            f"The backend config has '{cluster}', and a container: the agent of a sweep on a "
            'cluster runs on the target itself. Take one of them out, or add "environment": '
            '"target".'
        )
    if cluster == HOSTS_KEY:
        return _parse_hosts(given)
    if container is None:
        return replace(_parse_plain(given), ray=ray)
    python = _text(given, "python") or "python3"
    if given.get("target") in (None, saved.LOCAL) and "host" not in given:
        given.pop("python", None)
    login = config.get(registries.KEY)
    spec = replace(
        _parse_plain(given),
        container=container,
        registry_login=None if login is None else registries.RegistryLogin.from_config(login),
    )
    if spec.publish_from == "target":
        raise ConfigurationError(
            'With "environment": "docker" a sweep is published from the client: leave out '
            "'publish_from'."
        )
    return replace(spec, python=python) if spec.is_local else spec


def parse_joining(text: str) -> TargetSpec:
    """Read the one host that joins others: the name of a target, a host, or an object in JSON.

    Raises:
        ConfigurationError: It is none of them.
    """
    try:
        return _parse_host(json.loads(text) if text.lstrip().startswith("{") else text, {})
    except ValueError as error:
        raise ConfigurationError(f"'{text}' is no JSON object: {error}.") from error


def _parse_hosts(given: Mapping[str, object]) -> TargetSpec:
    """Read a target of several hosts: the first, with the others."""
    hosts = given[HOSTS_KEY]
    common = {key: value for key, value in given.items() if key != HOSTS_KEY}
    if not isinstance(hosts, list) or len(hosts) < 2:
        raise _must_be(HOSTS_KEY, "a list of two hosts or names of targets, or more", hosts)
    for key in ("host", "target", RAY_KEY):
        if key in common:
            raise ConfigurationError(
                f"The backend config has '{HOSTS_KEY}' and '{key}': leave one of them out."
            )
    specs = [_parse_host(each, common) for each in hosts]
    seen: set[tuple[object, ...]] = set()
    for spec in specs:
        place = (spec.host, spec.user, spec.port)
        if place in seen:
            raise ConfigurationError(f"'{HOSTS_KEY}' has {spec.label} twice.")
        seen.add(place)
    require_ray(HOSTS_KEY)
    return replace(specs[0], others=tuple(specs[1:]))


def _parse_host(each: object, common: Mapping[str, object]) -> TargetSpec:
    """Read one of several hosts: a name, or an object with keys of its own."""
    if isinstance(each, str):
        each = {"target" if each in saved.saved_names() else "host": each}
    if not isinstance(each, Mapping) or ("host" in each) == ("target" in each):
        raise _must_be(
            HOSTS_KEY, 'names, and objects such as {"host": "vm1", "user": "ada"}', each
        )
    keys = dict(each)
    address = _text(keys, "address")
    keys.pop("address", None)
    if saved.LOCAL in (keys.get("target"), keys.get("host")):
        raise ConfigurationError(
            f"'{HOSTS_KEY}' has '{saved.LOCAL}', but all of them are reached over SSH. Give this "
            "machine by a name that the others know it by."
        )
    try:
        address = None if address is None else str(ip_address(address))
    except ValueError as error:
        raise _must_be("address", "an IP address that the other hosts reach", address) from error
    name = _text(keys, "target")
    own = {} if name is None else {**saved.load(name).config, **keys}
    common = {key: value for key, value in common.items() if key not in own}
    return replace(_parse_plain({**common, **keys}), address=address)


def _parse_plain(given: dict[str, object]) -> TargetSpec:
    """Read the target, without what is said of a container."""
    name = _text(given, "target")
    given.pop("target", None)
    is_local = name in (None, saved.LOCAL) and "host" not in given
    for key in given:
        if key not in SSH_KEYS or is_local:
            raise ConfigurationError(_unknown_key(key, is_local=is_local))
    if is_local:
        home = os.environ.get(HOME_VARIABLE)
        return TargetSpec(root=str(Path(home).expanduser().absolute()) if home else None)
    if name is None:
        return _parse_ssh(given)
    if "host" in given:
        raise ConfigurationError(
            "The backend config has a 'target' and a 'host'. Give the 'host' alone, or the name "
            "of a target that was attached."
        )
    known = saved.load(name)
    if not known.config:
        raise ConfigurationError(
            f"Creating the target '{name}' has not ended, or was interrupted. Take away what "
            f"there is of it with: automl-remote target destroy {name}"
        )
    return replace(_parse_ssh({**known.config, **given}), name=name)


def _parse_ssh(config: Mapping[str, object]) -> TargetSpec:
    host, user, proxy_jump = (_text(config, key) for key in ("host", "user", "proxy_jump"))
    port = _port(config)
    _check_words(host or "", user, proxy_jump)
    key_files, known_hosts = _key_files(config), _file("known_hosts", _text(config, "known_hosts"))
    root = _text(config, "root")
    if root is not None and not root.startswith(("/", "~/")):
        raise _must_be("root", "an absolute path on the host, or one that begins with ~/", root)
    settings = host_settings(host or "", user, port)
    return TargetSpec(
        host=host,
        user=settings.user or getpass.getuser(),
        port=settings.port,
        key_files=key_files,
        known_hosts=known_hosts,
        proxy_jump=proxy_jump,
        root=root,
        python=_text(config, "python") or "python3",
        env_manager=_choice(config, "env_manager", ENV_MANAGERS),
        wheelhouse=_flag(config, "wheelhouse"),
        resume_on_boot=_flag(config, "resume_on_boot"),
        publish_from=_choice(config, "publish_from", PUBLISH_FROM),
        forward_variables=_names(config, "forward_variables"),
        overcommit=_flag(config, "overcommit"),
    )


def _check_words(host: str | None, user: str | None, proxy_jump: str | None) -> None:
    """Refuse what `ssh` would take for an option, and what no such name can have in it."""
    for key, word, what in (
        ("host", host, "a host name, an address or an alias of ~/.ssh/config"),
        ("user", user, "the name of an account on the host"),
        ("proxy_jump", proxy_jump, "hosts to go through, such as 'ada@bastion.example.org'"),
    ):
        if word is not None and (
            not word
            or any(part.startswith("-") for part in word.split(","))
            or any(letter.isspace() or not letter.isprintable() for letter in word)
        ):
            raise _must_be(key, what, word)


def _key_files(config: Mapping[str, object]) -> tuple[str, ...]:
    value = config.get("key_file")
    if not isinstance(value, list):
        value = [] if value is None else [_text(config, "key_file")]
    if not all(isinstance(each, str) for each in value):
        raise _must_be("key_file", "a file or a list of files", value)
    return tuple(file for each in value if (file := _file("key_file", each)))


def _choice(config: Mapping[str, object], key: str, known: tuple[_Word, ...]) -> _Word:
    """Give one of the known words; the first of them where there is none."""
    value = config.get(key, known[0])
    found = next((word for word in known if word == value), None)
    if found is None:
        raise _must_be(key, "one of " + ", ".join(known), value)
    return found


def _names(config: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = config.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _must_be(key, "a list of names of variables", value)
    return tuple(value)


def _text(config: Mapping[str, object], key: str) -> str | None:
    value = config.get(key)
    if value is not None and not isinstance(value, str):
        raise _must_be(key, "a string", value)
    return value


def _flag(config: Mapping[str, object], key: str) -> bool:
    value = config.get(key, False)
    if not isinstance(value, bool):
        raise _must_be(key, "true or false", value)
    return value


def _port(config: Mapping[str, object]) -> int | None:
    value = config.get("port")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise _must_be("port", "a whole number from 1 to 65535", value)
    return value


def _file(key: str, value: str | None) -> str | None:
    if value is None:
        return None
    path = Path(value).expanduser().absolute()
    if not path.is_file():
        raise ConfigurationError(
            f"The '{key}' of the backend config must be an existing file. "
            f"Got '{value}' instead, and there is no file {shlex.quote(str(path))}."
        )
    return str(path)


def _unknown_key(key: object, *, is_local: bool) -> str:
    if is_local and key in SSH_KEYS:
        return (
            f"The backend config has '{key}' but no 'host'. Add the 'host' to connect to, or the "
            "name of a 'target' that was attached."
        )
    return (
        f"Unknown key '{key}' in the backend config. Known keys: {', '.join(SSH_KEYS)} "
        f"for a machine over SSH; {HOSTS_KEY} for several; target for this one; {RAY_KEY}, "
        f"{', '.join(CONTAINER_KEYS)} for both."
    )


def _must_be(key: str, allowed: str, value: object) -> ConfigurationError:
    return ConfigurationError(
        f"The '{key}' of the backend config must be {allowed}. Got {value!r} instead."
    )
