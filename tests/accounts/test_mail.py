"""Mail through the queue, over real SMTP."""

import re
import smtplib
from datetime import timedelta
from threading import Event, Thread

import pytest
from django.core import mail as outbox
from django.db import connection, transaction
from django_q.models import OrmQ

from accounts import mail
from accounts.letters import Letter, write
from accounts.models import Mail, Urgency, User
from accounts.sealing import seal
from tests import processes
from tests.accounts.test_codes import ask, verify
from tests.commands import manage
from tests.smtp import mail_server, said, silent_server
from zcplatform.lib import clock
from zcplatform.lib.errors import DependencyDown, InvalidField, Misconfigured
from zcplatform.lib.failpoints import failpoint


def later(**time):
    then = clock.now() + timedelta(**time)
    return clock.use(lambda: then)


def queued(recipient="dana@example.com", **options):
    with transaction.atomic():
        return mail.queue(recipient, Letter("A subject", "A text with an ü.\n", ""), **options)


def test_a14_the_code_arrives_over_smtp_and_works_once(dana, settings):
    with mail_server(settings) as box:
        assert ask("dana@example.com").status_code == 202
        assert box.mails == []  # the request did not wait for the server
        assert mail.send_due() == 1
        recipients, message = box.mails[0]
        assert recipients == ["dana@example.com"]
        assert (message["To"], message["Subject"]) == ("dana@example.com", "Your login code")
        assert message["Auto-Submitted"] == "auto-generated"
        code = re.search(r"^ {4}([0-9]{6})$", box.text().replace("\r", ""), re.MULTILINE)[1]
        assert mail.send_due() == 0
    assert verify("dana@example.com", code).status_code == 200
    assert verify("dana@example.com", code).status_code == 401


def test_a14_a_server_that_says_nothing_delays_mail_and_nothing_else(dana, settings):
    with silent_server(settings):
        assert ask("dana@example.com").status_code == 202
        queued("other@example.com")
        assert mail.send_due() == 0
        assert mail.send_due() == 0  # nothing is due now: the second mail was put off unseen
    assert sorted(Mail.objects.values_list("attempts", flat=True)) == [0, 1]
    with mail_server(settings) as box, later(minutes=5):
        assert mail.send_due() == 2
        assert len(box.mails) == 2
        assert mail.queue_age_s() is None


def test_a14_the_queue_tells_how_long_it_has_waited(db):
    assert mail.queue_age_s() is None
    queued()
    with later(seconds=90):
        assert 90 <= mail.queue_age_s() < 120


def test_the_wait_doubles_up_to_an_hour():
    waits = [mail.wait_after(n).total_seconds() for n in range(12)]
    assert waits[:4] == [15, 30, 60, 120]
    assert waits[-1] == mail.wait_after(10_000).total_seconds() == 3600


def test_a_refusal_for_good_is_final_and_one_for_now_is_not(db, settings):
    with mail_server(settings) as box:
        for answer, failed in (("550 No such user", True), ("450 Mailbox busy", False)):
            Mail.objects.all().delete()
            queued()
            box.recipient_answer = answer
            assert mail.send_due() == 0
            assert bool(Mail.objects.get().failed_at) is failed
        box.recipient_answer, box.data_answer = "", "554 Not with me"
        with later(minutes=5):
            assert mail.send_due() == 0
            assert Mail.objects.get().failed_at


def test_a_refused_mail_does_not_hold_the_others_up(db, settings):
    with mail_server(settings) as box:
        queued("a@example.com")
        box.recipient_answer = "550 No such user"
        mail.send_due()
        box.recipient_answer = ""
        queued("b@example.com")
        assert mail.send_due() == 1
        assert box.mails[0][0] == ["b@example.com"]


def test_a_mail_goes_out_with_the_transaction_or_not_at_all(db):
    with pytest.raises(RuntimeError), transaction.atomic():
        mail.queue("dana@example.com", Letter("S", "T", ""))
        raise RuntimeError
    assert not Mail.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_worker_is_woken_when_the_transaction_commits():
    queued()
    assert OrmQ.objects.filter(key="sweeps").count() == 1


def test_what_waited_too_long_is_given_up_and_its_text_forgotten(db, settings):
    settings.EMAIL_HOST = ""
    queued(lasts=timedelta(minutes=10))
    with later(minutes=10):
        assert mail.send_due() == 0
    row = Mail.objects.get()
    assert row.failed_at
    assert row.sealed_text == ""
    assert outbox.outbox == []


def test_no_text_stands_open_in_the_database(db):
    row = queued()
    assert "A text" not in row.sealed_text
    mail.send_due()
    row.refresh_from_db()
    assert row.sealed_text == ""
    assert outbox.outbox[0].body == "A text with an ü.\n"


def test_text_sealed_under_another_pepper_is_no_endless_loop(db, settings):
    queued()
    settings.PEPPER = "another" * 8
    assert mail.send_due() == 0
    assert Mail.objects.get().attempts == 1
    assert outbox.outbox == []


@pytest.mark.parametrize("subject", ["a\nBcc: x@example.com", "a\r\nX: y", "", "x" * 201])
def test_a10_a_subject_is_one_line(db, subject):
    with pytest.raises(InvalidField), transaction.atomic():
        mail.queue("dana@example.com", Letter(subject, "T", ""))
    assert not Mail.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_killed_sender_leaves_its_mail_to_the_next(settings):
    queued()
    before = mail.deliver

    def killed_before_sending():
        mail.deliver = lambda *_args: failpoint("mail.test")
        mail.send_due()

    assert processes.run(killed_before_sending, "mail.test=kill") == processes.KILLED
    assert mail.deliver is before
    assert mail.send_due() == 0  # its lease is still good
    Mail.objects.update(lease_until="2020-01-01T00:00:00Z")
    with mail_server(settings) as box:
        assert mail.send_due() == 1
        assert len(box.mails) == 1


@pytest.mark.django_db(transaction=True)
def test_one_worker_sends_at_a_time(monkeypatch):
    """The other one is free for the sweeps."""
    for name in ("a", "b"):
        queued(f"{name}@example.com")
    inside, go_on = Event(), Event()
    sent = []

    def slow(recipient, *_rest):
        inside.set()
        assert go_on.wait(20)
        sent.append(recipient)

    def first():
        try:
            mail.send_due()
        finally:
            connection.close()

    monkeypatch.setattr(mail, "deliver", slow)
    worker = Thread(target=first)
    worker.start()
    assert inside.wait(20)
    assert mail.send_due() == 0
    go_on.set()
    worker.join(20)
    assert sent == ["a@example.com", "b@example.com"]


def test_without_a_server_nothing_is_written_to_a_log_instead(dana, settings, capsys):
    settings.EMAIL_BACKEND = "accounts.mail.NoServer"
    assert ask("dana@example.com").status_code == 202
    assert mail.send_due() == 0
    assert "No mail server is set" in Mail.objects.get().error
    text = mail.opened(Mail.objects.get()).text
    code = re.search(r"^ {4}([0-9]{6})$", text, re.MULTILINE)[1]
    shown = capsys.readouterr()
    assert code not in shown.out + shown.err


def test_in_development_the_console_shows_the_code(dana, settings, capsys):
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    ask("dana@example.com")
    mail.send_due()
    assert re.search(r"^ {4}[0-9]{6}$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("env", "backend"),
    [
        ({}, "accounts.mail.NoServer"),
        ({"ZCPLATFORM_DEBUG": "1"}, "django.core.mail.backends.console.EmailBackend"),
        ({"ZCPLATFORM_SMTP_HOST": "mail.example.com"}, "django.core.mail.backends.smtp.EmailBackend"),
    ],
)
def test_the_settings_choose_the_door(env, backend, monkeypatch, tmp_path):
    import subprocess
    import sys

    code = "from zcplatform import settings; print(settings.EMAIL_BACKEND)"
    clean = {"ZCPLATFORM_HOME": str(tmp_path), "ZCPLATFORM_CONFIG": str(tmp_path / "none.toml"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=clean | env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == backend


def test_test_smtp_says_that_it_works(db, settings):
    with mail_server(settings) as box:
        done = manage("test_smtp", "--to", "Ops@Example.com")
        assert done.code == 0
        assert f"Handed to 127.0.0.1:{settings.EMAIL_PORT} for ops@example.com" in done.out
        assert box.mails[0][0] == ["ops@example.com"]
        queued()
        assert manage("test_smtp", "--to", "ops@example.com", "--json").json["queue_age_s"] >= 0


def test_test_smtp_says_what_is_wrong(db, settings):
    with mail_server(settings) as box:
        box.recipient_answer = "550 No such user"
        done = manage("test_smtp", "--to", "ops@example.com", "--json")
        assert (done.code, done.json["error"]["type"]) == (1, "mail_refused")
        settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "user", "a-wrong-password"
        assert manage("test_smtp", "--to", "ops@example.com", "--json").json["error"]["type"] == "smtp_down"
    assert manage("test_smtp", "--to", "ops@example.com", "--json").json["error"]["type"] == "smtp_down"
    settings.EMAIL_BACKEND = "accounts.mail.NoServer"
    assert manage("test_smtp", "--to", "ops@example.com", "--json").json["error"]["type"] == "smtp_missing"
    assert manage("test_smtp", "--to", "a@b.c\r\nBcc: x").code == 1


def test_each_fault_has_a_name(settings):
    settings.EMAIL_BACKEND = "accounts.mail.NoServer"
    with pytest.raises(Misconfigured):
        mail.deliver("a@example.com", Letter("S", "T", ""))
    with silent_server(settings), pytest.raises(DependencyDown):
        mail.deliver("a@example.com", Letter("S", "T", ""))


def test_old_mails_are_forgotten_and_waiting_ones_are_not(db):
    queued()
    mail.send_due()
    queued()
    with later(days=8):
        assert mail.prune() == 1
    assert Mail.objects.count() == 1
    assert User.objects.count() == 0


def test_a_letter_is_text_and_html_and_what_people_write_stays_text_in_both(db, settings):
    hostile = "<img src=x onerror=alert(1)> & Sons"
    letter = write("invitation", f"Invitation to {hostile}", name=hostile, slug="acme", link="https://a.test/i?a=1&b=2")
    with mail_server(settings) as box:
        with transaction.atomic():
            mail.queue("dana@example.com", letter)
        assert "Sons" not in Mail.objects.get().sealed_text
        assert mail.send_due() == 1
        message = box.mails[0][1]
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.get_payload()] == ["text/plain", "text/html"]
    assert hostile in said(message)
    assert "https://a.test/i?a=1&b=2" in said(message)
    html = said(message, "text/html")
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; Sons" in html
    assert 'href="https://a.test/i?a=1&amp;b=2"' in html
    assert not re.search(r"(?:src|url)\s*[=(]|<link|<script", html.replace("src=x", ""))


def test_a_mail_that_an_earlier_version_queued_still_goes_out(db, settings):
    row = queued()
    for sealed, text in (("Plain words.\n", "Plain words."), ("1234", "1234"), ("{}", "{}")):
        Mail.objects.filter(pk=row.pk).update(sealed_text=seal(sealed, mail.PURPOSE), sent_at=None)
        with mail_server(settings) as box:
            assert mail.send_due() == 1
            assert box.text().strip() == text
            assert not box.mails[0][1].is_multipart()


@pytest.mark.parametrize("name", ["login_code", "invitation", "alert"])
def test_every_letter_has_both_templates(name):
    letter = write(name, "A subject", lines=["One"], facts=["One"])
    assert letter.text.endswith("\n")
    assert not letter.text.endswith("\n\n")
    assert "<title>A subject</title>" in letter.html


def test_a_code_goes_out_at_once_past_sixty_recipients_that_answer_later(dana, settings):
    with mail_server(settings) as box:
        for number in range(60):
            queued(f"busy{number}@example.com", urgency=Urgency.INVITATION)
            box.answers[f"busy{number}@example.com"] = "450 Mailbox busy"
        queued("fine@example.com")
        assert mail.send_due() == 1, "60 refusals for now are no reason to put off the 61st"
        assert ask("dana@example.com").status_code == 202
        box.asked.clear()
        assert mail.send_due() == 1
        assert box.asked == ["dana@example.com"]
        assert [to for to, _ in box.mails] == [["fine@example.com"], ["dana@example.com"]]
    assert Mail.objects.filter(busy=1).count() == 60


def test_a_code_that_comes_while_others_are_sent_is_the_next(dana, settings):
    with mail_server(settings) as box:
        for number in range(4):
            queued(f"u{number}@example.com")
        inner, before = mail.deliver, []

        def delivering(recipient, letter):
            inner(recipient, letter)
            if not before:
                before.append(ask("dana@example.com").status_code)

        mail.deliver = delivering
        try:
            assert mail.send_due() == 5
        finally:
            mail.deliver = inner
        assert [to[0] for to, _ in box.mails][1] == "dana@example.com"


def test_the_most_urgent_first_and_codes_have_a_third_of_the_minute_for_themselves(dana, settings, monkeypatch):
    monkeypatch.setattr(mail, "PER_MINUTE", 6)
    with mail_server(settings) as box:
        for urgency in (Urgency.TEST, Urgency.ALERT, Urgency.INVITATION):
            for number in range(2):
                queued(f"{urgency.name}{number}@example.com".lower(), urgency=urgency)
        assert mail.send_due() == 4
        sent = [to[0] for to, _ in box.mails]
        assert sent == [f"{name}{n}@example.com" for name in ("invitation", "alert") for n in range(2)]
        ask("dana@example.com")
        assert mail.send_due() == 1
        assert box.mails[-1][0] == ["dana@example.com"]


def test_a_recipient_rests_longer_each_time_with_all_that_waits_for_it_but_codes(dana, settings):
    then, waits = clock.now(), []
    with mail_server(settings) as box, clock.use(lambda: then):
        box.answers["dana@example.com"] = "450 Mailbox full"
        for _ in range(10):
            queued("dana@example.com")
        for _ in range(4):
            box.asked.clear()
            mail.send_due()
            assert box.asked == ["dana@example.com"], "one of ten is tried, and the recipient rests"
            until = Mail.objects.filter(busy__gt=0).latest("next_attempt_at").next_attempt_at
            waits.append((until - then).total_seconds())
            then = until
        assert waits == [15, 30, 60, 120]
        box.asked.clear()
        Mail.objects.update(next_attempt_at=then + timedelta(minutes=1))
        ask("dana@example.com")
        mail.send_due()
        assert box.asked == ["dana@example.com"]


def test_what_one_mail_meets_is_not_taken_for_the_servers(db, settings, monkeypatch):
    before = mail.deliver

    def odd(recipient, letter):
        if recipient == "odd@example.com":
            raise UnicodeError("a letter that no message can carry")
        before(recipient, letter)

    monkeypatch.setattr(mail, "deliver", odd)
    with mail_server(settings) as box:
        sealed = queued("sealed@example.com")
        Mail.objects.filter(pk=sealed.pk).update(sealed_text="not ours")
        queued("odd@example.com")
        queued("fine@example.com")
        assert mail.send_due() == 1
        assert box.mails[0][0] == ["fine@example.com"]
    assert Mail.objects.filter(sent_at=None, attempts=1).count() == 2


def test_a_421_is_the_servers_and_a_refused_sender_ends_no_mail(db, settings):
    with mail_server(settings) as box:
        for name in "ab":
            queued(f"{name}@example.com")
        box.recipient_answer = "421 Going down"
        assert mail.send_due() == 0
        assert len(box.asked) == 1
    assert not Mail.objects.exclude(failed_at=None).exists()
    refused = smtplib.SMTPSenderRefused(550, b"Who are you?", "zc@example.com")
    assert mail._refusal(refused).type in mail.SERVERS_OWN


@pytest.mark.django_db(transaction=True)
def test_who_runs_out_of_time_calls_the_next_worker(settings, monkeypatch):
    monkeypatch.setattr(mail, "BUSY_S", -1.0)
    queued()
    OrmQ.objects.all().delete()
    with mail_server(settings):
        assert mail.send_due() == 0
    assert OrmQ.objects.filter(key="sweeps").count() == 1
