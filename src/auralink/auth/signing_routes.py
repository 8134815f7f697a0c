"""HTTP of signing keys: the users' under `/api/v1`, the installation's own at its well-known place."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from auralink.auth.dependencies import Authenticated
from auralink.auth.signed import Signed
from auralink.auth.signing import RequestSigner
from auralink.auth.signing_keys import SigningKeyBody, SigningKeyPage, SigningKeyPatch, SigningKeys, SigningKeyView
from auralink.core.http import JSONBytes, dumps
from auralink.core.idempotency import idempotently

router = APIRouter(tags=["signing"])
DIRECTORY_TYPE = "application/http-message-signatures-directory+json"


async def _keys(request: Request) -> SigningKeys:
    keys: SigningKeys = request.app.state.signing_keys
    return keys


Keys = Annotated[SigningKeys, Depends(_keys)]


@router.post("/api/v1/signing-keys", status_code=201, response_model=SigningKeyView)
async def register_key(body: SigningKeyBody, request: Request, principal: Signed, keys: Keys) -> Response:
    """Registers a public key. From then on sensitive operations, this one included, need a signature by a registered key."""

    async def answer() -> Response:
        return JSONBytes((await keys.register(principal, body)).model_dump(mode="json"), status_code=201)

    return await idempotently(request.app.state.db, principal, request, answer)


@router.get("/api/v1/signing-keys")
async def list_keys(principal: Authenticated, keys: Keys) -> SigningKeyPage:
    """Your keys, oldest first."""
    return await keys.page(principal)


@router.get("/api/v1/signing-keys/{signing_key_id}")
async def get_key(signing_key_id: UUID, principal: Authenticated, keys: Keys) -> SigningKeyView:
    """One key."""
    return await keys.get(principal, signing_key_id)


@router.patch("/api/v1/signing-keys/{signing_key_id}")
async def rename_key(signing_key_id: UUID, body: SigningKeyPatch, principal: Authenticated, keys: Keys) -> SigningKeyView:
    """Renames a key."""
    return await keys.rename(principal, signing_key_id, body)


@router.delete("/api/v1/signing-keys/{signing_key_id}", status_code=204)
async def delete_key(signing_key_id: UUID, principal: Signed, keys: Keys) -> None:
    """Removes a key (signed, by any of yours)."""
    await keys.delete(principal, signing_key_id)


@router.get("/.well-known/http-message-signatures-directory")
async def directory(request: Request) -> Response:
    """The public key with which this installation signs its calls to MCP servers, as a JSON Web Key Set."""
    signer: RequestSigner = request.app.state.signer
    return Response(dumps(signer.directory()), media_type=DIRECTORY_TYPE, headers={"Cache-Control": "public, max-age=3600"})
