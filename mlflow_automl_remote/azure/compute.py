"""Azure's names for attaching a machine over SSH, and for making one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mlflow_automl_remote import compute, providers, terminal
from mlflow_automl_remote.compute import saved
from mlflow_automl_remote.errors import ConfigurationError

AZURE_ONLY = ("subscription_id", "resource_group", "vm_name", "resource_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachConfiguration:
    """What `ComputeTarget.attach` connects with; shows no secret when printed."""

    config: Mapping[str, object]
    password: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisioningConfiguration:
    """What `ComputeTarget.create` makes a machine from."""

    provider: str
    options: Mapping[str, str]
    ttl_hours: float = 0.0
    idle_minutes: float = 0.0


class ComputeTarget:
    """A machine that was attached or created under a name.

    Args:
        workspace: The workspace; targets are saved with the user, so it is not asked.
        name: Of the target.

    Raises:
        ConfigurationError: There is no target of that name.
    """

    def __init__(self, workspace: object, name: str) -> None:
        known = saved.load(name)
        self.workspace = workspace
        self.name = name
        self.address = str(known.config.get("host", ""))
        self.machine = known.machine
        self._lines: list[str] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, address={self.address!r})"

    @classmethod
    def attach(
        cls, workspace: object, name: str, attach_configuration: AttachConfiguration
    ) -> ComputeTarget:
        """Connect to a machine, verify it, and save it under a name.

        Raises:
            ConfigurationError: The name or a part of the configuration is wrong.
            HostKeyNotVerifiable: Nobody vouches for its host key; the message says how to.
            TransportError: The machine cannot be used.
        """
        lines: list[str] = []
        credentials = compute.Credentials(
            password=attach_configuration.password, passphrase=attach_configuration.passphrase
        )
        with compute.attaching(
            name,
            attach_configuration.config,
            credentials=credentials,
            fingerprint=attach_configuration.fingerprint,
            tell=lines.append,
        ):
            attached = RemoteCompute(workspace, name)
        attached._lines = lines
        return attached

    @classmethod
    def create(
        cls, workspace: object, name: str, provisioning_configuration: ProvisioningConfiguration
    ) -> ComputeTarget:
        """Make a machine and save it under a name; one that was made before is found.

        Raises:
            ConfigurationError: The name or a part of the configuration is wrong.
            ProviderFailed: It could not be made; nothing is left of it.
            TransportError: It was made, but does not let us in.
        """
        how, lines = provisioning_configuration, list[str]()
        _, is_new = providers.create(
            name,
            how.provider,
            how.options,
            lines.append,
            ttl_hours=how.ttl_hours,
            idle_minutes=how.idle_minutes,
        )
        made = RemoteCompute(workspace, name)
        made._lines = [*lines, f"{'Created' if is_new else 'Found existing'} target '{name}'"]
        return made

    @property
    def type(self) -> str:
        """Azure's word for a machine over SSH."""
        return "VirtualMachine"

    @property
    def provisioning_state(self) -> str:
        """Always `Succeeded`: a machine that could not be attached is an error, not a target."""
        return "Succeeded"

    @property
    def provisioning_errors(self) -> None:
        """Always None; see `provisioning_state`."""
        return

    def get_status(self) -> str:
        """Give `provisioning_state`."""
        return self.provisioning_state

    def wait_for_completion(self, show_output: bool = False) -> None:
        """Do nothing but tell of the machine: `attach` and `create` have waited."""
        if show_output:
            with terminal.view() as view:
                for line in self._lines or [f"'{self.name}' is attached: {self.machine}"]:
                    view.say(line)

    def detach(self) -> None:
        """Forget the machine and its secrets; nothing on it is touched.

        Raises:
            ConfigurationError: It was created, so that nobody else would take it away.
        """
        if saved.load(self.name).creation is not None:
            raise ConfigurationError(
                f"The machine of '{self.name}' was created for it and would go on costing. "
                "Take it away with delete()."
            )
        saved.forget(self.name)

    def delete(self, *, discard: bool = False) -> None:
        """Take a created machine away; forget one that was attached.

        Args:
            discard: Whether sweeps may be lost that are running or not in MLflow.

        Raises:
            ConfigurationError: Sweeps would be lost.
            ProviderFailed: It cannot be taken away; the target stays.
        """
        if saved.load(self.name).creation is None:
            self.detach()
        else:
            providers.destroy(self.name, discard=discard)


class RemoteCompute(ComputeTarget):
    """A Linux machine over SSH."""

    @staticmethod
    def attach_configuration(  # noqa: PLR0913 - the signature is Azure's
        username: str,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        vm_name: str | None = None,
        resource_id: str | None = None,
        address: str | None = None,
        ssh_port: int = 22,
        password: str = "",
        private_key_file: str = "",
        private_key_passphrase: str = "",
        *,
        fingerprint: str | None = None,
        **more: object,
    ) -> AttachConfiguration:
        """Say how a machine is reached.

        Args:
            username: The account there.
            subscription_id: Refused: give the address.
            resource_group: Refused likewise.
            vm_name: Refused likewise.
            resource_id: Refused likewise.
            address: Name or address of the machine, or an alias of `~/.ssh/config`.
            ssh_port: Of its SSH server.
            password: Of the account, where it has no key.
            private_key_file: A private key; without it those of `~/.ssh` and the SSH agent.
            private_key_passphrase: Of that key.
            fingerprint: Of the host key that is expected, as `SHA256:...`; it is then trusted.
            **more: Further keys of a backend config: `known_hosts`, `proxy_jump`, `root`, `python`
                or `env_manager`.

        Raises:
            ConfigurationError: There is no address, or one of Azure's own ways to name a machine.
        """
        given = (subscription_id, resource_group, vm_name, resource_id)
        for name, value in zip(AZURE_ONLY, given, strict=True):
            if value:
                raise ConfigurationError(
                    f"'{name}' has no meaning here: machines are named by 'address', wherever "
                    "they are. Give the address instead."
                )
        if not address:
            raise ConfigurationError(
                "'address' is missing: give the name or the address of the machine."
            )
        config: dict[str, object] = {"host": address, "user": username, "port": ssh_port}
        if private_key_file:
            config["key_file"] = private_key_file
        config |= {key: value for key, value in more.items() if value is not None}
        return AttachConfiguration(
            config=config,
            password=password or None,
            passphrase=private_key_passphrase or None,
            fingerprint=fingerprint,
        )


class DsvmCompute(RemoteCompute):
    """A Linux machine that is made: at Azure, or by another provider."""

    @staticmethod
    def provisioning_configuration(
        vm_size: str | None = None,
        location: str | None = None,
        ssh_port: int = 22,
        *,
        provider: str = "azure",
        ttl_hours: float = 0.0,
        idle_minutes: float = 0.0,
        **options: str,
    ) -> ProvisioningConfiguration:
        """Say what machine is to be made.

        Args:
            vm_size: As Azure names them.
            location: Of Azure.
            ssh_port: 22, and no other.
            provider: Who makes it; see `automl-remote target create`.
            ttl_hours: After which it switches itself off, without sweeps; 0 for never.
            idle_minutes: Without use, after which it does so; 0 for never.
            **options: Further options of the provider.

        Raises:
            ConfigurationError: There is no such provider, or it has no such option.
        """
        if ssh_port != 22:
            raise ConfigurationError(
                f"A machine that is made has its SSH server at port 22. Got {ssh_port} instead."
            )
        given = {"vm_size": vm_size, "location": location, **options}
        chosen = {name: value for name, value in given.items() if value is not None}
        providers.provider_of(provider, chosen)  # raises where it is wrong
        return ProvisioningConfiguration(
            provider=provider, options=chosen, ttl_hours=ttl_hours, idle_minutes=idle_minutes
        )


class ComputeTargets(Mapping[str, ComputeTarget]):
    """The attached machines by name, as `workspace.compute_targets` gives them."""

    def __init__(self, workspace: object) -> None:
        self._workspace = workspace

    def __getitem__(self, name: str) -> ComputeTarget:
        if name not in saved.saved_names():
            raise KeyError(name)
        return RemoteCompute(self._workspace, name)

    def __iter__(self) -> Iterator[str]:
        return iter(saved.saved_names())

    def __len__(self) -> int:
        return len(saved.saved_names())
