"""Who calls: the credential of a call turned into rights, and what is noted of the call for the audit trail.

Theory of operation: a credential is looked at when the call arrives, because the answer's headers (a bearer token after
a login) leave before any handler runs. What is wrong with it is kept, and raised when the handler asks who calls: only
then is it known where the call comes from. A Handshake has no handler of ours, and fails at once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flightserver.access.principal import ANONYMOUS
from flightserver.access.rights import Rights
from flightserver.catalog.identities import AccessState
from flightserver.errors import FlightserverError, Unauthenticated

if TYPE_CHECKING:
    from flightserver.access.authenticating import Authenticated, Authenticator
    from flightserver.access.rights import AccessControl

EVERYBODY = Rights(ANONYMOUS, AccessState())
"""Of whoever calls a server that knows no users."""


class Note:
    """What is noted of one call while it runs.

    Attributes:
        rpc: The name of the call as pyarrow has it, such as `DO_GET`.
        started: When it began, monotonic seconds.
        user: Who calls; empty until that is known.
        method: How the caller was recognised.
        peer: The address of the client's end of the connection; empty until a handler has run.
        what: What was called, such as an action or a kind of command.
        about: What it was about: a statement, a dataset.
        is_sql: Whether that is a statement, whose values are not to be shown.
    """

    __slots__ = ("about", "is_sql", "method", "peer", "rpc", "started", "user", "what")

    def __init__(self, rpc: str) -> None:
        self.rpc = rpc
        self.started = time.monotonic()
        self.user = ""
        self.method = ""
        self.peer = ""
        self.what = ""
        self.about = ""
        self.is_sql = False


class Callers:
    """Recognises callers of one server.

    Args:
        authenticator: Knows credentials.
        control: Knows what principals may do.
    """

    def __init__(self, authenticator: Authenticator, control: AccessControl) -> None:
        self._authenticator = authenticator
        self._control = control

    @property
    def is_open(self) -> bool:
        """Whether everybody is `anonymous`."""
        return self._authenticator.is_open

    def arrived(self, authorization: str, *, by_certificate: bool) -> Arrived:
        """Look at the credential of a call that has arrived.

        Args:
            authorization: The header's value; empty if there is none.
            by_certificate: Whether a call without that header may be known by its certificate.
        """
        if not authorization and by_certificate and not self.is_open:
            return Arrived(self)
        try:
            return Arrived(self, self._authenticator.authenticate(authorization))
        except FlightserverError as error:
            return Arrived(self, failure=error, claimed=self._authenticator.claimed(authorization))

    def certificate(self, identity: str) -> Rights:
        """What the holder of a client's certificate may do.

        Raises:
            Unauthenticated: It is nobody's.
        """
        return self._control.rights(self._authenticator.certificate(identity))

    def rights(self, found: Authenticated) -> Rights:
        """What somebody who was recognised may do."""
        return self._control.rights(found.principal)


class Arrived:
    """What the credential of a call says.

    Args:
        callers: Where rights come from; None where everybody may do everything.
        found: Who it is; None if that is for the certificate to say, or nobody knows.
        failure: Why nobody is known by it.
        claimed: Whose password it should have been, but isn't.
    """

    def __init__(
        self,
        callers: Callers | None,
        found: Authenticated | None = None,
        failure: FlightserverError | None = None,
        claimed: str = "",
    ) -> None:
        self._callers = callers
        self.found = found
        self.failure = failure
        self.claimed = claimed

    def rights(self, identity: str) -> Rights:
        """What the caller may do.

        Args:
            identity: What the client's certificate names; empty without one.

        Raises:
            Unauthenticated: Nobody knows who calls.
        """
        if self._callers is None:
            return EVERYBODY
        if self.failure is not None:
            raise self.failure
        if self.found is not None:
            return self._callers.rights(self.found)
        if not identity:
            raise Unauthenticated("this call has neither the header authorization nor a client certificate")
        return self._callers.certificate(identity)
