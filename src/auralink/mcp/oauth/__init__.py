"""OAuth 2.1 towards MCP servers that want it: this service as the client, for one user and one connection at a time.

Implements the authorization part of the MCP specification (2026-07-28, basic/authorization): discovery (RFC 9728, RFC 8414, OpenID
Connect Discovery), the authorization code flow with PKCE (RFC 7636), `resource` (RFC 8707), `iss` (RFC 9207), client id metadata
documents and dynamic registration (RFC 7591). The other side, where this service is the resource, is `auth/metadata.py`.
"""
