"""What can go wrong with a stored secret. No message ever contains key or secret material."""

from auralink.core.errors import AuralinkError


class VaultError(AuralinkError):
    """A secret could not be stored or read."""

    code = "vault_error"
    title = "Vault error"


class MasterKeyMissing(VaultError):
    """A data key is wrapped by a master key that this process does not have."""

    code = "encryption_key_missing"
    title = "Encryption key missing"


class SealBroken(VaultError):
    """What is stored was altered, or belongs to another user, row, field or key version."""

    code = "secret_unreadable"
    title = "Secret unreadable"
