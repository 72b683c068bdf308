"""Content Credentials (C2PA 2): every picture is signed with the operator's key before anybody sees it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import c2pa
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import services
from services.common.vision.synthetic import COMPOSITE_TYPE, SOURCE_TYPE

CHAIN, KEY = "chain.pem", "key.pem"
# A thumbnail would add 200 KB to every picture, and say nothing that the picture does not.
_SETTINGS = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"verify_after_sign": False}}


class SigningError(ValueError):
    """The signing key cannot be used. The message says why and how to make one."""


class Signer:
    """Signs with ES256. `folder` holds `chain.pem` (leaf first) and `key.pem`; raises SigningError."""

    def __init__(self, folder: Path) -> None:
        self.chain, self._key = _read(folder)

    def sign(self, png: bytes, *, prompt: str, seed: int, model: str, painted: bool) -> bytes:
        """The PNG with its manifest: created by a trained model, with prompt, seed and the model's hash."""
        source = COMPOSITE_TYPE if painted else SOURCE_TYPE
        agent = {"name": "Claimsight generator", "version": services.VERSION}
        manifest = {
            "claim_generator_info": [agent],
            "title": "Synthetic vehicle damage",
            "format": "image/png",
            "assertions": [
                {
                    "label": "c2pa.actions.v2",
                    "data": {
                        "actions": [{"action": "c2pa.created", "digitalSourceType": source, "softwareAgent": agent}]
                    },
                },
                {"label": "org.claimsight.generation", "data": {"prompt": prompt, "seed": seed, "model": model}},
            ],
        }
        info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, self.chain, self._key, None)
        made = io.BytesIO()
        context = c2pa.Context.from_dict(_SETTINGS)
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(manifest), context) as builder:
            builder.sign(signer, "image/png", io.BytesIO(png), made)
        return made.getvalue()


def _read(folder: Path) -> tuple[bytes, bytes]:
    make = f"Make one: python -m services.generator.keys --out {folder}"
    try:
        chain, key = (folder / CHAIN).read_bytes(), (folder / KEY).read_bytes()
        leaf, *issuers = x509.load_pem_x509_certificates(chain)
        secret = serialization.load_pem_private_key(key, None)
    except OSError as error:
        raise SigningError(f"{error.filename} cannot be read: {error.strerror}. {make}") from error
    except (ValueError, TypeError) as error:
        raise SigningError(f"{folder} holds no PEM chain and unencrypted PEM key. {make}") from error
    if not isinstance(secret, ec.EllipticCurvePrivateKey) or not isinstance(secret.curve, ec.SECP256R1):
        raise SigningError(f"{folder / KEY} is no P-256 key. {make}")
    if leaf.public_key() != secret.public_key():
        raise SigningError(f"{folder / KEY} does not belong to the first certificate of {CHAIN}. {make}")
    for child, issuer in zip([leaf, *issuers], issuers, strict=False):
        try:
            child.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise SigningError(
                f"{folder / CHAIN} is not in order: each certificate must sign the one before"
            ) from error
    return chain, key
