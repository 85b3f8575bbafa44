"""A real mail server on the loopback, which can be told to be slow, to refuse, or to ask for later."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


class Postbox:
    """What arrived, and how the next mails are answered."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Message]] = []
        self.recipient_answer = ""
        self.answers: dict[str, str] = {}  # by recipient
        self.asked: list[str] = []  # every recipient that was named
        self.data_answer = ""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        self.asked.append(address)
        answer = self.answers.get(address, self.recipient_answer)
        if answer:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.data_answer:
            return self.data_answer
        self.mails.append((list(envelope.rcpt_tos), message_from_bytes(envelope.content)))
        return "250 OK"

    def text(self) -> str:
        """The newest mail's text."""
        return said(self.mails[-1][1])


def said(message: Message, kind: str = "text/plain") -> str:
    """The part of a mail that is of this kind."""
    part = next(part for part in message.walk() if part.get_content_type() == kind)
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


@contextmanager
def mail_server(settings: Any) -> Iterator[Postbox]:
    """Run a server, and point the settings at it."""
    box = Postbox()
    controller = Controller(box, hostname="127.0.0.1", port=0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        controller.port = probe.getsockname()[1]
    controller.start()
    try:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", controller.port
        settings.EMAIL_USE_TLS, settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = False, "", ""
        yield box
    finally:
        controller.stop()


def refuse(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    """Nobody gets in, and the refusal repeats the password, as a careless server may."""
    return AuthResult(success=False, handled=False, message=f"535 5.7.8 Not with {data.password.decode()}")


@contextmanager
def refusing_server(settings: Any, password: str) -> Iterator[None]:
    """A server that lets nobody log in."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"authenticator": refuse, "auth_require_tls": False}
    controller = Controller(Postbox(), hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_USE_TLS = "127.0.0.1", port, False
        settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "user", password
        yield
    finally:
        controller.stop()


@contextmanager
def silent_server(settings: Any) -> Iterator[None]:
    """A server that accepts and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = listener.getsockname()
        settings.EMAIL_TIMEOUT = 0.2
        yield
