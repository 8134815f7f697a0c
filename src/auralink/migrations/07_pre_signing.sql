-- Signed requests (RFC 9421): the public keys that users register, and the nonces that were seen.

CREATE TABLE auralink.signing_keys (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL,
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    key_id       text NOT NULL CHECK (length(key_id) <= 64),   -- the key's JWK thumbprint (RFC 7638): the `keyid` of a signature
    algorithm    text NOT NULL CHECK (algorithm IN ('ed25519', 'ecdsa-p256-sha256')),
    public_key   bytea NOT NULL,                              -- SubjectPublicKeyInfo, DER
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    UNIQUE (user_id, key_id)
);
CALL auralink.protect_tenant_table('auralink.signing_keys');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.signing_keys TO auralink_service;
GRANT SELECT, DELETE ON auralink.signing_keys TO auralink_system;   -- for the operator, when a user has lost every key

CREATE TABLE auralink.signature_nonces (
    user_id    uuid NOT NULL,
    key_id     text NOT NULL,
    nonce      text NOT NULL CHECK (length(nonce) BETWEEN 1 AND 128),
    expires_at timestamptz NOT NULL,                          -- when a signature with it is too old anyway
    PRIMARY KEY (user_id, key_id, nonce)
);
CREATE INDEX signature_nonces_age ON auralink.signature_nonces (user_id, expires_at);
CALL auralink.protect_tenant_table('auralink.signature_nonces');
GRANT SELECT, INSERT, UPDATE, DELETE ON auralink.signature_nonces TO auralink_service;
