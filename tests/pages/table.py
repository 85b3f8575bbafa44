"""Every page of a tenant: its address, the ability it needs, and by which method it acts."""

from __future__ import annotations

from django.urls import reverse

READS = {
    "overview": "tenant.view",
    "state": "tenant.view",
    "configuration": "config.view",
    "history": "config.view",
    "channels": "channels.view",
    "members": "members.view",
    "access": "tokens.manage",
    "usage": "metrics.view",
    "logs": "logs.read",
    "logs_download": "logs.read",
    "console": "exec.diagnostic",
    "runs": "runs.view",
    "audit": "audit.read",
    "rotate": "secrets.rotate",
    "pairing": "pairing.manage",
    "pairing_reset": "pairing.manage",
    "rename": "tenant.update",
    "transfer": "tenant.transfer",
    "alerts": "alerts.manage",
    "silence": "alerts.manage",
    "alert_rules": "alerts.manage",
    "alert_rule_add": "alerts.manage",
    "notifiers": "alerts.manage",
    "setup_token": "tokens.manage",
    "setup_model": "config.update",
    "setup_channels": "channels.update",
    "setup_review": "tenant.deploy",
}
ACTS = {
    "deploy": "tenant.deploy",
    "start": "tenant.start",
    "stop": "tenant.stop",
    "restart": "tenant.restart",
    "suspend": "tenant.suspend",
    "reactivate": "tenant.reactivate",
    "resize": "tenant.resize",
    "delete": "tenant.delete",
}


def of(tenant, name, *more):
    return reverse(f"tenant_{name}", args=[tenant.slug, *more])


def reads(stage):
    """Address and ability of whatever is only looked at; questions among it."""
    found = {of(stage.tenant, name): ability for name, ability in READS.items()}
    found |= {of(stage.tenant, "act", verb): ability for verb, ability in ACTS.items()}
    channel, member = stage.channel.public_id, stage.member.public_id
    rule, notifier = stage.rule.public_id, stage.notifier.public_id
    return found | {
        of(stage.tenant, "alert_rule", rule): "alerts.manage",
        of(stage.tenant, "alert_rule_delete", rule): "alerts.manage",
        of(stage.tenant, "notifier_add", "mail"): "alerts.manage",
        of(stage.tenant, "notifier", notifier): "alerts.manage",
        of(stage.tenant, "notifier_delete", notifier): "alerts.manage",
        of(stage.tenant, "channel_add", "telegram"): "channels.update",
        of(stage.tenant, "channel", channel): "channels.update",
        of(stage.tenant, "channel_remove", channel): "channels.update",
        of(stage.tenant, "member_remove", member): "members.view",
        of(stage.tenant, "rollback", 1): "config.update",
    }


def writes(stage):
    """Address and ability of whatever is posted to."""
    found = {of(stage.tenant, "act", verb): ability for verb, ability in ACTS.items()}
    channel, member = stage.channel.public_id, stage.member.public_id
    rule, notifier = stage.rule.public_id, stage.notifier.public_id
    return found | {
        of(stage.tenant, "alert_ack", stage.alert.public_id): "alerts.manage",
        of(stage.tenant, "silence"): "alerts.manage",
        of(stage.tenant, "unsilence", stage.silence.public_id): "alerts.manage",
        of(stage.tenant, "alert_rule_add"): "alerts.manage",
        of(stage.tenant, "alert_rule", rule): "alerts.manage",
        of(stage.tenant, "alert_rule_delete", rule): "alerts.manage",
        of(stage.tenant, "notifier_add", "mail"): "alerts.manage",
        of(stage.tenant, "notifier", notifier): "alerts.manage",
        of(stage.tenant, "notifier_test", notifier): "alerts.manage",
        of(stage.tenant, "notifier_delete", notifier): "alerts.manage",
        of(stage.tenant, "configuration"): "config.update",
        of(stage.tenant, "rollback", 1): "config.update",
        of(stage.tenant, "setup_model"): "config.update",
        of(stage.tenant, "setup_review"): "tenant.deploy",
        of(stage.tenant, "channel_add", "telegram"): "channels.update",
        of(stage.tenant, "channel", channel): "channels.update",
        of(stage.tenant, "channel_test", channel): "channels.update",
        of(stage.tenant, "channel_remove", channel): "channels.update",
        of(stage.tenant, "invite"): "members.update",
        of(stage.tenant, "member", member): "members.update",
        of(stage.tenant, "uninvite", stage.invitation.public_id): "members.update",
        of(stage.tenant, "access"): "tokens.manage",
        of(stage.tenant, "token_revoke", stage.token.public_id): "tokens.manage",
        of(stage.tenant, "rotate"): "secrets.rotate",
        of(stage.tenant, "pairing_reset"): "pairing.manage",
        of(stage.tenant, "rename"): "tenant.update",
        of(stage.tenant, "transfer"): "tenant.transfer",
        of(stage.tenant, "console"): "exec.diagnostic",
    }
