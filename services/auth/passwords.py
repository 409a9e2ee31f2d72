"""How passwords are kept: scrypt with a salt each, the parameters beside the hash."""

import hashlib
import hmac
import secrets

_N, _R, _P = 2**14, 8, 5  # about 16 MB and a tenth of a second each


def hash_password(password: str) -> str:
    salt = secrets.token_bytes(16)
    return f"scrypt:{_N}:{_R}:{_P}:{salt.hex()}:{_scrypt(password, salt, _N, _R, _P).hex()}"


def verify(password: str, password_hash: str) -> bool:
    _, n, r, p, salt, expected = password_hash.split(":")
    actual = _scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p))
    return hmac.compare_digest(actual, bytes.fromhex(expected))


def is_text(password: str) -> bool:
    """JSON can carry half of a character (`"\\ud800"`), which has no bytes."""
    try:
        password.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=2**26)


NOBODY = f"scrypt:{_N}:{_R}:{_P}:{'00' * 16}:{'00' * 64}"
"""No password has this hash; checking against it takes as long as against any other."""
