"""The condition that verifiers of all dialects ask for."""

from xdsl.utils.exceptions import VerifyException


def expect(condition: bool, message: str) -> None:
    """Raises VerifyException with the message unless the condition holds."""
    if not condition:
        raise VerifyException(message)
